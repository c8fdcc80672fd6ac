//! A listener that reads what it had freed when it ran before.

use fanfare::Dispatcher;

struct Freed(*mut u64);

// SAFETY: one thread emits.
unsafe impl Send for Freed {}
// SAFETY: one thread emits.
unsafe impl Sync for Freed {}

impl Freed {
    fn read_and_free(&self) {
        // SAFETY: there is none for the second call. This is the planted fault.
        let value = unsafe { Box::from_raw(self.0) };
        assert_eq!(std::hint::black_box(*value), 1);
    }
}

fn main() {
    let event = Dispatcher::new().event::<u64>("planted").expect("the name is good");
    let freed = Freed(Box::into_raw(Box::new(1)));
    event.on(move |_| freed.read_and_free());
    event.emit(&1);
    event.emit(&2);
}
