//! Shapes, buffers, op traits, and the CPU kernels of phalanx

