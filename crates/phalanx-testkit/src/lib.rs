//! Conformance suites, exact inputs and harnesses for the tests of phalanx
#![forbid(unsafe_code)]
