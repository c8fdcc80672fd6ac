//! How many instructions does an emit take? `benches/instructions.sh`
//!
//! Each contender emits 1000 and 2000 times under callgrind, on a setup that is made and dropped
//! uncounted. What the first emit and the harness add is in both counts, so a thousandth of their
//! difference is what one emit takes: the same in every run, unlike nanoseconds.
//!
//! The contenders are optimised as one program: a new one may move the figures of the others.

#![allow(missing_docs, reason = "gungraun's macros make undocumented functions")]

use std::hint::black_box;

use fanfare::{Dispatcher, Event};
use fanfare_benches::{Payload, listener};
use gungraun::{library_benchmark, library_benchmark_group, main};

struct Setup {
    events: Dispatcher,
    event: Event<Payload>,
    times: usize,
}

fn setup(listeners: usize, times: usize) -> Setup {
    let events = Dispatcher::new();
    let event = events.event::<Payload>("bench").expect("the name is good");
    for _ in 0..listeners {
        event.on(listener());
    }
    Setup { events, event, times }
}

fn repeat<R>(times: usize, mut emit: impl FnMut(&Payload) -> R) {
    let payload = Payload { amount: 1, ..Payload::default() };
    (0..times).for_each(|_| drop(black_box(emit(black_box(&payload)))));
}

/// Measures each contender at every size. The script reads listeners and times from the names.
macro_rules! contenders {
    ($($name:ident: |$on:ident| $emit:expr;)+) => {
        $(
            #[library_benchmark(setup = setup)]
            #[bench::n0_k1000(0, 1000)]
            #[bench::n0_k2000(0, 2000)]
            #[bench::n1_k1000(1, 1000)]
            #[bench::n1_k2000(1, 2000)]
            #[bench::n10_k1000(10, 1000)]
            #[bench::n10_k2000(10, 2000)]
            fn $name($on: Setup) -> Setup {
                repeat($on.times, $emit);
                $on
            }
        )+
        library_benchmark_group!(name = emit, benchmarks = [$($name),+]);
    };
}

contenders! {
    event: |on| |payload| on.event.emit(payload);
    publisher: |on| {
        let mut publisher = on.event.publisher();
        move |payload| publisher.emit(payload)
    };
    name: |on| |payload| on.events.emit("bench", payload);
}

main!(library_benchmark_groups = emit);
