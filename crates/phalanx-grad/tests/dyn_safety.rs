//! The interfaces are used as trait objects: this file compiles only while all of them can be.

use phalanx_grad::{
    BatchPolicy, GradSet, Observer, Ranks, Reduce, Samples, Schedule, Tasks, Transform, WeightRule,
};
use phalanx_tensor::Cpu;

const fn can_move_to_another_thread<T: ?Sized + Send>() {}

const _: () = {
    can_move_to_another_thread::<dyn Reduce<Samples>>();
    can_move_to_another_thread::<dyn Reduce<Ranks, Cpu<f64>>>();
    can_move_to_another_thread::<dyn WeightRule<Tasks>>();
    can_move_to_another_thread::<dyn Observer<Ranks>>();
    can_move_to_another_thread::<dyn Transform<Cpu<f32>>>();
    can_move_to_another_thread::<dyn BatchPolicy>();
    can_move_to_another_thread::<dyn Schedule>();
    let _: Option<&dyn GradSet<Samples, Cpu<f64>>> = None;
};
