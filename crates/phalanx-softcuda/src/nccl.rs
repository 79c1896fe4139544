//! NCCL: what `libnccl.so.2` exports, between ranks that are threads or processes of this machine.
//!
//! Ranks of a communicator meet at a hub, a thread of the process that made the unique id, over the loopback. The work of a
//! collective waits in its stream like a kernel; when its turn comes, the rank's numbers go to the hub, which compares what
//! the ranks called, computes in rank order, and answers. Where ranks differ, real NCCL hangs or corrupts memory; here every
//! rank of the communicator fails with what each called.
//!
//! As with NCCL, a rank that never comes is waited for until the communicator is aborted. Unlike there, sends are buffered,
//! and a rank whose process ended is known at once.

mod api;
mod arithmetic;
mod comm;
mod group;
mod hub;
mod signature;
mod status;
mod wire;
mod work;
