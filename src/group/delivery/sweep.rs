//! One sweep over a group: round after round, until every member has all.
//!
//! It goes from member to member like a paternoster lift, and hands each one all that has been sent
//! since its last visit. What arrives meanwhile is taken up at the next stop: members behind that point
//! get it together with what they are owed anyway, in one write, and those before it in the next round.
//! So a frame is with everybody one round after it came, and a busy group has as many frames in a write
//! as come in a round.
//!
//! ```text
//! members    1   2   3   4   5   6   7   8        at: the next to be visited, 4 in round 0
//!            |___|___|   ^                        a frame that is taken up here has its due at 4 in
//!            next round  this round               round 1: then the log may forget it
//! ```
//!
//! Positions are in the order of the members' numbers, which joins and leaves do not change. A plain
//! value, of whoever holds the group's token; see `sweeper`.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::log::{Entry, Log};
use super::state::{Member, Members, State};
use crate::channel::{Access, ChannelId, Outcome};
use crate::frame::{Piece, pieces};
use crate::observe::channels::{To, delivered};
use crate::sync::Arc;

/// Frames, and bytes, that a sweep takes up at a time: a quarter of what an outbox has room for. A member
/// gets them in one visit, in which its own task cannot empty its outbox.
const WINDOW_FRAMES: usize = 256;
const WINDOW_BYTES: usize = 256 << 10;
/// Joined runs that are kept for the next members. More than one, since some clients take compressed
/// frames, and some have had a part already.
const JOINS: usize = 4;

/// Members whose memory is asked for at once: see [`touch`].
const AHEAD: usize = 8;

pub(super) struct Sweep {
    /// What the log has from `first` to `end`.
    entries: VecDeque<Entry>,
    first: u64,
    end: u64,
    /// What lies behind is for the next sweep.
    limit: u64,
    /// The head of the log at the beginning: whoever had asked for a sweep by then has appended before it.
    owed: u64,
    /// Who does not get a frame, with its position.
    excepted: SmallVec<[(u64, ChannelId); 4]>,
    members: Arc<Members>,
    at: Stop,
    marks: VecDeque<Mark>,
    joins: SmallVec<[Join; JOINS]>,
}

/// A point on the way: in this round, before the member of this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stop {
    round: u64,
    number: u64,
}

/// What lies before `end` is with everybody when the sweep comes to `due`.
struct Mark {
    end: u64,
    due: Stop,
}

/// The frames from `start` to the end, as they go to a member that gets them all.
struct Join {
    start: u64,
    deflates: bool,
    pieces: Vec<Piece>,
    /// Members whose kernel took all of it at once, not yet told to the tallies.
    whole: usize,
}

impl Sweep {
    /// Begins with what is in the log. One that is `open` takes up what comes later, too.
    pub(super) fn new(state: &State, open: bool) -> Self {
        let log = &state.log;
        // Nobody is always the last one: the beginning jumps about, evenly (by the golden ratio).
        let number = log.first().wrapping_mul(0x9e37_79b9_7f4a_7c15) % state.next_member.max(1);
        let mut sweep = Self {
            entries: VecDeque::new(),
            first: log.first(),
            end: log.first(),
            limit: if open { u64::MAX } else { log.head() },
            owed: log.head(),
            excepted: SmallVec::new(),
            members: Arc::clone(&state.members),
            at: Stop { round: 0, number },
            marks: VecDeque::new(),
            joins: SmallVec::new(),
        };
        sweep.take_up(state);
        sweep
    }

    /// Takes no more up than it owes.
    pub(super) fn close(&mut self) {
        self.limit = self.end.max(self.owed);
    }

    /// Tells whether everybody has all that was taken up.
    pub(super) fn is_done(&self) -> bool {
        self.marks.is_empty()
    }

    /// Visits up to `most` members, and returns what all have now.
    pub(super) fn advance(&mut self, most: usize) -> Passed {
        let members = Arc::clone(&self.members);
        let mut visits = 0;
        while visits < most && !self.is_round() {
            let run = members.run_from(&self.at.number);
            if run.is_empty() {
                self.at = Stop { round: self.at.round + 1, number: 0 };
            }
            for (ahead, member) in run.iter().take(most - visits).enumerate() {
                if ahead % AHEAD == 0 {
                    touch(run[ahead..].iter().take(AHEAD));
                }
                self.at.number = member.number;
                if self.is_round() {
                    break;
                }
                self.visit(member);
                self.at.number += 1;
                visits += 1;
            }
        }
        self.pass()
    }

    /// Takes up what the log has got since, and who is a member now: under its lock.
    pub(super) fn take_up(&mut self, state: &State) {
        let log = &state.log;
        self.members = Arc::clone(&state.members);
        let end = self.window(log);
        if end == self.end {
            return;
        }
        self.tell();
        for (position, entry) in (self.end..end).zip(log.since(self.end)) {
            self.excepted.extend(entry.except.map(|channel| (position, channel)));
            self.entries.push_back(entry.clone());
        }
        self.end = end;
        self.marks.push_back(Mark { end: self.end, due: Stop { round: self.at.round + 1, ..self.at } });
    }

    /// Returns how far the sweep may go now: as far as there is, with no more on its way than a window.
    fn window(&self, log: &Log) -> u64 {
        let mut bytes: usize = self.entries.iter().map(|entry| entry.frame.bytes().len()).sum();
        let mut end = self.end;
        for entry in log.since(self.end) {
            bytes += entry.frame.bytes().len();
            let frames = (end - self.first) as usize;
            // One of any size passes when it is alone.
            if end >= self.limit || frames >= WINDOW_FRAMES || (bytes > WINDOW_BYTES && frames > 0) {
                break;
            }
            end += 1;
        }
        end
    }

    /// Tells whether everybody has been visited since the last frame was taken up.
    fn is_round(&self) -> bool {
        self.marks.back().is_none_or(|mark| mark.due <= self.at)
    }

    /// Lets go of the frames that everybody has.
    fn pass(&mut self) -> Passed {
        let reached = self.marks.iter().take_while(|mark| mark.due <= self.at).count();
        let end = self.marks.drain(..reached).next_back().map_or(self.first, |mark| mark.end);
        if end > self.first {
            self.tell();
        }
        let entries = self.entries.drain(..(end - self.first) as usize).collect();
        self.first = end;
        self.excepted.retain(|(position, _)| *position >= end);
        Passed { end, entries }
    }

    fn visit(&mut self, member: &Member) {
        // A channel that is gone has left all its groups, or is about to.
        let Some(link) = member.link.upgrade() else { return };
        // A guess, before the lock: joining and compressing are not for there. It rarely fails.
        let start = member.cursor();
        let gets_all = start < self.end && self.is_for(member.channel, start);
        let join = gets_all.then(|| self.join(start, link.deflates()));
        let whole = link.deliver(|access| self.hand_over(member, start, join, access));
        if let (true, Some(join)) = (whole, join) {
            self.joins[join].whole += 1;
        }
    }

    /// Hands a member what it has not had; true when that was a whole join, and the kernel took it whole.
    /// Otherwise each frame's tally was told.
    fn hand_over(&self, member: &Member, guess: u64, join: Option<usize>, access: &mut Access<'_>) -> bool {
        let cursor = member.cursor();
        if cursor >= self.end {
            return false;
        }
        member.set_cursor(self.end);
        match join {
            Some(join) if cursor == guess => self.push_join(member, &self.joins[join], access),
            _ => {
                self.entries_from(cursor).for_each(|entry| member.push(entry, access));
                false
            }
        }
    }

    fn push_join(&self, member: &Member, join: &Join, access: &mut Access<'_>) -> bool {
        let mut whole = true;
        let mut passed = 0;
        for piece in &join.pieces {
            let entries = || self.entries_from(join.start + passed as u64).take(piece.frames);
            let mut untold = entries();
            let frames = entries().map(|entry| (&entry.frame, member.route(entry)));
            let written = access.push_joined(&piece.bytes, frames, |outcome| {
                untold.by_ref().take(1).for_each(|entry| entry.tally.note(outcome));
            });
            if !written && whole {
                // The first piece that did not go out whole: those before did.
                self.entries_from(join.start).take(passed).for_each(|entry| entry.tally.note(Outcome::Written));
            } else if written && !whole {
                entries().for_each(|entry| entry.tally.note(Outcome::Written));
            }
            whole &= written;
            passed += piece.frames;
        }
        whole
    }

    fn is_for(&self, channel: ChannelId, from: u64) -> bool {
        !self.excepted.iter().any(|(position, excepted)| *position >= from && *excepted == channel)
    }

    fn entries_from(&self, position: u64) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.range((position - self.first) as usize..)
    }

    /// Returns where the join of what lies from `start` to the end is kept.
    fn join(&mut self, start: u64, deflates: bool) -> usize {
        let known = self.joins.iter().position(|join| (join.start, join.deflates) == (start, deflates));
        known.unwrap_or_else(|| {
            if self.joins.len() == JOINS {
                self.tell();
            }
            let pieces = pieces(self.entries_from(start).map(|entry| entry.frame.wire(deflates)));
            self.joins.push(Join { start, deflates, pieces, whole: 0 });
            self.joins.len() - 1
        })
    }

    /// Tells the tallies what became of the joins, which are made anew for what comes next.
    fn tell(&mut self) {
        for join in std::mem::take(&mut self.joins) {
            if join.whole > 0 {
                self.entries_from(join.start).for_each(|entry| entry.tally.add_written(join.whole));
            }
        }
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        // The task may end with its runtime: what was written stays counted.
        self.tell();
    }
}

/// Frames that everybody has.
pub(super) struct Passed {
    /// Their end.
    pub(super) end: u64,
    entries: Vec<Entry>,
}

impl Passed {
    /// Settles their tallies: without the log's lock, since whoever waits for one is woken.
    pub(super) fn settle(self) {
        delivered(To::Group, || {
            self.entries.iter().fold([0; 3], |[written, queued, dropped], entry| {
                let delivery = entry.tally.delivery();
                [written + delivery.written, queued + delivery.queued, dropped + delivery.dropped]
            })
        });
        self.entries.iter().for_each(|entry| entry.tally.settle());
    }
}

/// Reads a little of some connections that are next, so that their memory comes while nothing else waits
/// for it. Each write drives the caches out; fetched one by one, these reads took 3 % of a sweep's time.
fn touch<'p>(members: impl Iterator<Item = &'p Arc<Member>>) {
    std::hint::black_box(members.map(|member| member.link.strong_count()).sum::<usize>());
}
