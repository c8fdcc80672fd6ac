//! Models of fanfare's races, one in each file of `tests`, explored by loom under `--cfg loom`.
//!
//! What they prove is fanfare's own protocol over a snapshot cell and a name map that are
//! linearisable: loom sees into neither `arc-swap` nor `scc`, so both have stand-ins there.
//! `run.sh` also plants a fault for each model and requires the model to fail.
