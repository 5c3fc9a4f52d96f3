//! The files of the program that are modelled, under the names that they know each other by.

#![forbid(unsafe_code)]

#[path = "../../../src/provider"]
pub mod provider {
    pub mod alias;
    pub mod current;
}
