//! What listeners do to their own dispatcher.

use std::sync::Arc;

use fanfare::dispatch::EmitOptions;

use super::{Wait, World, summary};
use crate::notes::{Note, Payload};
use crate::ops::{Deed, NAMES, Plan};

impl World {
    fn emit_plain(&self, name: usize) {
        let report = self.emit(name, &Payload(0));
        self.note(Note::Emitted(summary(&report)));
    }

    pub(super) fn deed(self: &Arc<Self>, id: usize, deed: Deed) {
        match deed {
            Deed::Nothing => {}
            Deed::On(name, priority) => {
                if let Some(is_on) = self.on(name, Plan { priority, ..Plan::PLAIN }) {
                    self.note(Note::Registered(is_on));
                }
            }
            Deed::Off(other) => self.note(Note::Off(self.off(other, false))),
            Deed::OffItself => self.note(Note::Off(self.handle(id).is_some_and(|handle| handle.off()))),
            Deed::OffAll(name) => self.note(Note::OffAll(self.events.off_all(NAMES[name]))),
            Deed::Wait(other) => self.note(Note::Waited(self.wait(other, Wait::NotAtAll))),
            Deed::WaitForItself => {
                let waited = self.handle(id).and_then(|handle| handle.wait(Wait::OnePoll));
                self.note(Note::Waited(waited));
            }
            Deed::Emit(name) => {
                if spend(&mut self.held().nested_left) {
                    self.emit_plain(name);
                }
            }
            Deed::EmitEndless(name) => {
                if spend(&mut self.held().endless_left) {
                    self.emit_plain(name);
                }
            }
            Deed::Start(name) => {
                if spend(&mut self.held().nested_left) {
                    let summary = self.start(name, 0, false, EmitOptions::new(), true);
                    self.note(Note::Started(summary));
                }
            }
            Deed::Pause(other) => self.pause(other),
            Deed::PauseItself => self.pause_one(self.handle(id)),
            Deed::Resume(at) => self.resume(at),
            Deed::Mute(name) => self.mute(name),
            Deed::Unmute(at) => self.unmute(at),
            Deed::Look(name) => {
                let listeners = self.events.listener_count(NAMES[name]);
                let muted = self.event(name).is_muted();
                self.note(Note::Saw { listeners, muted });
            }
        }
    }
}

fn spend(left: &mut u32) -> bool {
    let may = *left > 0;
    *left = left.saturating_sub(1);
    may
}
