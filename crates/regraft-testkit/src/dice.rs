//! Random numbers that can be had again: a test prints its seed.

use std::time::{Duration, SystemTime};

/// The seed of the default suite.
const EVERY_TIME: u64 = 2_026;

/// A source of random numbers (splitmix64).
#[derive(Debug)]
pub struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    /// Seeded by `REGRAFT_TEST_SEED`: a number, or `random` for the clock. Without it the numbers are
    /// the same every time, so that whoever runs the suite next finds what the one before found.
    pub fn from_environment() -> Self {
        let seed = match std::env::var("REGRAFT_TEST_SEED").as_deref() {
            Err(_) => EVERY_TIME,
            Ok("random") => clock(),
            Ok(text) => text
                .parse()
                .unwrap_or_else(|_| panic!("REGRAFT_TEST_SEED is neither a number nor `random`")),
        };
        Self::seeded(seed)
    }

    /// Seeded by a number.
    pub fn seeded(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    /// What to set `REGRAFT_TEST_SEED` to for the same numbers.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to `options - 1`.
    pub fn below(&mut self, options: u64) -> u64 {
        self.roll() % options.max(1)
    }

    /// A time from 0 up to `limit`, to the microsecond.
    pub fn moment(&mut self, limit: Duration) -> Duration {
        let limit = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.below(limit))
    }
}

fn clock() -> u64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ now.as_secs() << 20
}
