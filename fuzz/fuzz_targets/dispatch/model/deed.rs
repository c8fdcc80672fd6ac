//! What the model's listeners do to it.

use super::{Mode, Model};
use crate::notes::Note;
use crate::ops::{Deed, Plan};

impl Model {
    pub(super) fn perform(&mut self, id: usize, deed: Deed) {
        self.inside.push(id);
        self.deed(id, deed);
        self.inside.pop();
    }

    fn deed(&mut self, id: usize, deed: Deed) {
        match deed {
            Deed::Nothing => {}
            Deed::On(name, priority) => {
                if let Some(is_on) = self.on(name, Plan { priority, ..Plan::PLAIN }) {
                    self.note(Note::Registered(is_on));
                }
            }
            Deed::Off(other) => {
                let off = self.off(other);
                self.note(Note::Off(off));
            }
            Deed::OffItself => {
                let off = self.take_off(id);
                self.note(Note::Off(off));
            }
            Deed::OffAll(name) => {
                let count = self.off_all(name);
                self.note(Note::OffAll(count));
            }
            Deed::Wait(other) => {
                let waited = self.wait(other);
                self.note(Note::Waited(waited));
            }
            Deed::WaitForItself => {
                let waited = self.wait_for(id);
                self.note(Note::Waited(waited));
            }
            Deed::Emit(name) if self.nested_left > 0 => {
                self.nested_left -= 1;
                self.emit_plain(name);
            }
            Deed::EmitEndless(name) if self.endless_left > 0 => {
                self.endless_left -= 1;
                self.emit_plain(name);
            }
            Deed::Start(name) if self.nested_left > 0 => {
                self.nested_left -= 1;
                let mode = Mode { concurrent: Some(1), ..Mode::PLAIN };
                let summary = self.start(name, 0, mode, true, true);
                self.note(Note::Started(summary));
            }
            Deed::Emit(_) | Deed::EmitEndless(_) | Deed::Start(_) => {}
            Deed::Pause(other) => self.pause(other),
            Deed::PauseItself => self.pause_one(id),
            Deed::Resume(at) => self.resume(at),
            Deed::Mute(name) => self.mute(name),
            Deed::Unmute(at) => self.unmute(at),
            Deed::Look(name) => {
                let (listeners, muted) = (self.listeners(name).count(), self.is_muted(name));
                self.note(Note::Saw { listeners, muted });
            }
        }
    }

    fn emit_plain(&mut self, name: usize) {
        let (summary, _) = self.emit(name, 0, Mode::PLAIN);
        self.note(Note::Emitted(summary));
    }
}
