//! Descriptors that a thread keeps for the moment when all others are taken: it gives them up for what must
//! not fail then.

use std::fs::File;

/// Up to a number of open descriptors that mean nothing.
#[derive(Debug)]
pub struct Spares {
    max: usize,
    kept: Vec<File>,
}

impl Spares {
    /// None yet of at most so many.
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self { max, kept: Vec::new() }
    }

    /// Takes those that are missing; as many as there are to be had.
    pub fn fill(&mut self) {
        while !self.is_full()
            && let Ok(file) = File::open("/dev/null")
        {
            self.kept.push(file);
        }
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.kept.len() >= self.max
    }

    /// Gives one up; whether there was one.
    pub fn free_one(&mut self) -> bool {
        self.kept.pop().is_some()
    }

    /// Gives all up.
    pub fn free(&mut self) {
        self.kept.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_is_taken_again() {
        let mut spares = Spares::new(2);
        assert!(!spares.free_one(), "nothing is taken before it is asked for");
        spares.fill();
        assert!(spares.is_full());
        assert!(spares.free_one() && spares.free_one() && !spares.free_one());
        spares.fill();
        spares.free();
        assert!(!spares.is_full() && !spares.free_one());
    }
}
