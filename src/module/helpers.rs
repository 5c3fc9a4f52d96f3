//! How many threads help with batches of calls, all batches together.

use parking_lot::Mutex;

/// The most threads that help with batches.
const HELPERS_MAX: usize = 256;

/// How many threads help with batches now.
#[derive(Default)]
pub struct Helpers(Mutex<usize>);

impl Helpers {
    /// Takes at most so many; each is given back on its own.
    pub fn take(&self, wanted: usize) -> usize {
        let mut taken = self.0.lock();
        let some = wanted.min(HELPERS_MAX - *taken);
        *taken += some;
        some
    }

    pub fn give_back(&self, some: usize) {
        *self.0.lock() -= some;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_have_a_limit() {
        let helpers = Helpers::default();
        assert_eq!([helpers.take(200), helpers.take(200), helpers.take(1)], [200, 56, 0]);
        helpers.give_back(10);
        assert_eq!(helpers.take(200), 10);
    }
}
