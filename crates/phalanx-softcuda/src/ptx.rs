//! Reads PTX: the text of a module into entries whose registers, labels and source lines are resolved.
//!
//! Reference: NVIDIA, "Parallel Thread Execution ISA", version 8.8.

mod lexer;
mod module;
mod parser;
mod types;

pub(crate) use module::{Entry, Module, Operand, Param, Space, Statement};
pub(crate) use parser::parse;
pub(crate) use types::Type;
