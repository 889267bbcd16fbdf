//! How often a test repeats what only repetition can find: less under the emulator, where every round costs twenty times
//! as much and the same rounds run on the host; more when there is time.

/// Of that many rounds, those to do here; never none.
pub fn effort(rounds: u32) -> u32 {
    if std::env::var_os("KNARR_VM").is_some() { (rounds / 8).max(1) } else { rounds }
}

/// `make soak`, which asks for more by `PROPTEST_CASES`.
pub fn long() -> bool {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|text| text.parse().ok())
        .is_some_and(|cases: u32| cases >= 1000)
}
