//! What the C library does with memory that is free.
//!
//! Every thread that allocates may get an arena of its own, which is rarely given back: a burst of work on many threads
//! leaves megabytes behind for good. Programs that live long and wait most of the time have few, and give back.

use std::os::raw::c_int;

/// At most so many arenas from now on; to be called before there are threads.
pub fn limit_arenas(count: u8) {
    // SAFETY: mallopt takes numbers alone, and may be called at any time.
    let _refused = unsafe { libc::mallopt(libc::M_ARENA_MAX, c_int::from(count)) };
}

/// Gives free memory back to the kernel; takes milliseconds, in which other threads may wait for memory.
pub fn give_back() {
    // SAFETY: malloc_trim takes a number alone, and locks what it touches.
    let _nothing_was_free = unsafe { libc::malloc_trim(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_in_use_stays_as_it_is() {
        limit_arenas(2);
        let kept: Vec<Vec<usize>> = (0..1000).map(|number| vec![number; 100]).collect();
        give_back();
        assert!(kept.iter().enumerate().all(|(number, one)| one.iter().all(|value| *value == number)));
    }
}
