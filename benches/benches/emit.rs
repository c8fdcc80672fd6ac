//! How much does an emit cost beside the raw loop and a locked vector? `cargo bench -p fanfare-benches --bench emit`

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fanfare::Dispatcher;
use fanfare_benches::{Locked, Payload, listener, raw};

fn emit(criterion: &mut Criterion) {
    let payload = Payload { amount: 1, ..Payload::default() };
    let mut group = criterion.benchmark_group("emit");
    for listeners in [0, 1, 16, 1000] {
        let events = Dispatcher::new();
        let event = events.event::<Payload>("bench").expect("the name is good");
        for _ in 0..listeners {
            event.on(listener());
        }
        let calls = raw(listeners);
        let locked = Locked::new(listeners);
        group.bench_function(BenchmarkId::new("raw", listeners), |b| {
            b.iter(|| black_box(&calls).iter().for_each(|call| call(black_box(&payload))));
        });
        group.bench_function(BenchmarkId::new("event", listeners), |b| b.iter(|| event.emit(black_box(&payload))));
        group.bench_function(BenchmarkId::new("name", listeners), |b| {
            b.iter(|| events.emit(black_box("bench"), black_box(&payload)));
        });
        group.bench_function(BenchmarkId::new("rwlock", listeners), |b| b.iter(|| locked.emit(black_box(&payload))));
    }
    group.finish();
}

criterion_group!(benches, emit);
criterion_main!(benches);
