//! What it costs to reach many connections: `benches/fanout.sh [table ...] [--runs=N] [--seconds=S]`
//!
//! One process per side. The server is this program once more, or a peer, on one core with one thread;
//! the load client is a loop over epoll on another. Every message of a client goes to all clients, its
//! sender included. A message carries its number and the time it was sent at: the client checks that each
//! connection gets each message once, whole, and all in the same order, and notes how late.
//!
//! `wN` keeps N messages in flight: one that has reached everybody is followed by the next. `rN` sends N
//! messages a second, whatever happens. What a delivery costs is the server's time on its core by the
//! scheduler's count, divided by the messages received. "floor" is a plain loop of write(2) of the same
//! bytes over all sockets: what nobody can beat who writes each message by itself.
//!
//! With several in flight, what a delivery costs depends on how many of them share a write, and that on how
//! fast the load takes them: `messages_per_read` and `client_busy` say so.
//!
//! `deflate` sends lists, no two alike within a compressor's memory. A copy of each message is inflated and checked;
//! the others have to be the same bytes. "each" takes the compressor that shared messages get, which is fast and
//! begins afresh with each one; "a compressor each" is a loop of writes with zlib's usual level and 300 KB of memory
//! for each client: fewer bytes, since a message may refer to those before.
//!
//! Of a client that does not read, what it was offered must be what it receives in the end and what the server
//! says it dropped; and for each rule of fanfare's outboxes, what the server counts for it must add up to what it was
//! offered, and no more may be held for it than the outbox's bound and what the kernel makes of the send buffer: twice
//! what it is asked for, and a segment. Where that does not hold the program ends with an error, after its last table.
//! The client comes after the warm-up: a server that closes its connection soon does so while it is measured. With one
//! message in flight outboxes hold 128 KiB in place of 1 MiB, so that they fill in a slow run too.
//!
//! `caller` times single sends to a group that is swept by a task, from the thread that sweeps ("inside", as a handler
//! in a runtime of one thread) and from another core ("outside"). `burst` calls find a sweep on its way: that is what a
//! send itself takes, whatever the members. `idle` calls begin a sweep, so they spawn a task, and from outside wake a
//! thread that sleeps: "an empty task" is that alone. The sweep before has taken the caller's caches, all the more with
//! more members. `cold` calls come after 64 MiB of other data, for small groups too: there the figures of all sizes are
//! to be compared, with each other and with an empty task. `json` is `idle` with the message still to be serialised.
//!
//! `groups` has 100 000 groups of 10 in-memory channels, each of 10 000 channels in a hundred of them; every channel
//! must get what is sent to its groups, and when all have left there must be no group.
//!
//! Contenders take turns. Each line on stdout is one JSON object: medians over the runs, with the figure of
//! each run beside them; ratios are the medians of the runs' ratios.
//!
//! The first line and the last say what else the machine does, with nothing done here for a second: where that is more
//! than a tenth of a core, the figures in between are worthless. The load average is beside it, but just after a build
//! it still counts that.
//!
//! Tables: `throughput`, `large`, `deflate`, `memory`, `stalled`, `caller`, `joins`, `groups`; all without an argument.
//! `--open=N` adds to `throughput` a cell with N messages a second. What is being measured is told on stderr.

#![allow(missing_docs, reason = "a program")]

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
fn main() {
    linux::main();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("SKIPPED: fanout: it measures with Linux's epoll, affinity and scheduler counts");
}
