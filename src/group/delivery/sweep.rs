//! One sweep over a group: it visits the members in turn, round after round, until every member has every frame.
//!
//! A visit hands the member all frames that were sent since the last visit. Between visits the sweep takes up new
//! frames, as a paternoster lift takes passengers at every floor: members after that point get them in this round, in
//! one write with older frames, and members before it in the next round. So every member has a frame one round after
//! the sweep took it up, and in a busy group a write carries all frames of a round.
//!
//! ```text
//! members    1   2   3   4   5   6   7   8        at: the next member to visit, 4 in round 0
//!            |___|___|   ^                        a frame that is taken up here is due at 4 in
//!            next round  this round               round 1: then the log may forget it
//! ```
//!
//! Stops are in the order of the members' numbers, which joins and leaves do not change. A plain value, owned by the
//! thread or task that holds the group's token: see `sweeper`.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::log::{Entry, Log};
use super::state::{Member, Members, State};
use crate::channel::{Access, ChannelId, Outcome};
use crate::frame::{Piece, pieces};
use crate::observe::channels::{To, delivered};
use crate::sync::Arc;

/// The most frames and bytes that a sweep has taken up at a time: a quarter of an outbox. A member gets them all in one
/// visit, during which its own task cannot empty its outbox.
const WINDOW_FRAMES: usize = 256;
const WINDOW_BYTES: usize = 256 << 10;
/// The joined runs kept for the next members. There are several, since some clients take compressed frames, and some
/// members already have a part of the run.
const JOINS: usize = 4;

/// The number of members whose memory is fetched together: see [`touch`].
const AHEAD: usize = 8;

pub(super) struct Sweep {
    /// The entries of the log from `first` to `end`.
    entries: VecDeque<Entry>,
    first: u64,
    end: u64,
    /// The position at which this sweep stops; later frames are for the next sweep.
    limit: u64,
    /// The head of the log at the beginning. Every sender that had requested a sweep by then appended before it.
    owed: u64,
    /// The excepted channel of each frame that has one, with the frame's position.
    excepted: SmallVec<[(u64, ChannelId); 4]>,
    members: Arc<Members>,
    at: Stop,
    marks: VecDeque<Mark>,
    joins: SmallVec<[Join; JOINS]>,
}

/// A point in the sweep: in this round, before the member of this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stop {
    round: u64,
    number: u64,
}

/// When the sweep reaches `due`, every member has the frames before `end`.
struct Mark {
    end: u64,
    due: Stop,
}

/// The frames from `start` to the end, joined for members that get all of them.
struct Join {
    start: u64,
    deflates: bool,
    pieces: Vec<Piece>,
    /// The number of members for which the kernel took all of it at once; not yet counted in the tallies.
    whole: usize,
}

impl Sweep {
    /// Begins a sweep over the frames in the log. An `open` sweep also takes up frames that come later.
    pub(super) fn new(state: &State, open: bool) -> Self {
        let log = &state.log;
        // The first member of each sweep is spread evenly (by the golden ratio), so that none is always last.
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

    /// From now on takes up only frames that were in the log at the beginning.
    pub(super) fn close(&mut self) {
        self.limit = self.end.max(self.owed);
    }

    /// Returns whether every member has all frames that were taken up.
    pub(super) fn is_done(&self) -> bool {
        self.marks.is_empty()
    }

    /// Visits up to `most` members, and returns the frames that every member has now.
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

    /// Takes up new frames of the log and the current list of members. The caller holds the group's lock.
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

    /// Returns the position up to which frames are taken up now: the head of the log, or the end of the window.
    fn window(&self, log: &Log) -> u64 {
        let mut bytes: usize = self.entries.iter().map(|entry| entry.frame.bytes().len()).sum();
        let mut end = self.end;
        for entry in log.since(self.end) {
            bytes += entry.frame.bytes().len();
            let frames = (end - self.first) as usize;
            // A single frame of any size passes.
            if end >= self.limit || frames >= WINDOW_FRAMES || (bytes > WINDOW_BYTES && frames > 0) {
                break;
            }
            end += 1;
        }
        end
    }

    /// Returns whether every member was visited since the last frame was taken up.
    fn is_round(&self) -> bool {
        self.marks.back().is_none_or(|mark| mark.due <= self.at)
    }

    /// Takes out the frames that every member has.
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
        // The channel is gone: it has left its groups, or is about to.
        let Some(link) = member.link.upgrade() else { return };
        // A guess without the lock, under which frames are neither joined nor compressed. It is rarely wrong.
        let start = member.cursor();
        let gets_all = start < self.end && self.is_for(member.channel, start);
        let join = gets_all.then(|| self.join(start, link.deflates()));
        let whole = link.deliver(|access| self.hand_over(member, start, join, access));
        if let (true, Some(join)) = (whole, join) {
            self.joins[join].whole += 1;
        }
    }

    /// Hands a member the frames that it has not had. Returns true when that was a whole join and the kernel took all
    /// of it; otherwise the outcomes are counted in the frames' tallies.
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
                // This is the first piece that did not go out whole; the pieces before it did.
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

    /// Returns the index of the join from `start` to the end, which is made if there is none.
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

    /// Counts the written joins in the tallies, and drops the joins.
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
        // The task may end with its runtime: the written frames are still counted.
        self.tell();
    }
}

/// Frames that every member has.
pub(super) struct Passed {
    /// The position behind the last of them.
    pub(super) end: u64,
    entries: Vec<Entry>,
}

impl Passed {
    /// Settles their tallies. Called without the group's lock, since it wakes the waiting callers.
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

/// Reads a little of the next members' links, so that the loads from memory overlap. Each write evicts the caches;
/// fetched one by one, these reads took 3 % of a sweep's time.
fn touch<'p>(members: impl Iterator<Item = &'p Arc<Member>>) {
    std::hint::black_box(members.map(|member| member.link.strong_count()).sum::<usize>());
}
