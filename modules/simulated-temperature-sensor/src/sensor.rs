//! The simulated machine: temperature and pressure that rise together, and what the room around it has.

use serde_json::{Value, json};

/// The ends of the scales, from the module's environment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scales {
    pub(crate) temperature_min: f64,
    pub(crate) temperature_max: f64,
    pub(crate) pressure_min: f64,
    pub(crate) pressure_max: f64,
    pub(crate) ambient: f64,
}

impl Default for Scales {
    fn default() -> Self {
        Scales { temperature_min: 21.0, temperature_max: 100.0, pressure_min: 1.0, pressure_max: 10.0, ambient: 21.0 }
    }
}

/// The machine at one moment, and the randomness of its next steps.
#[derive(Debug, Clone)]
pub(crate) struct Sensor {
    scales: Scales,
    temperature: f64,
    random: Random,
}

impl Sensor {
    pub(crate) fn new(scales: Scales, seed: u64) -> Sensor {
        Sensor { scales, temperature: scales.temperature_min, random: Random(seed) }
    }

    /// Back to the lowest temperature.
    pub(crate) fn reset(&mut self) {
        self.temperature = self.scales.temperature_min;
    }

    /// One step on: below the maximum −0.25 to +1.25 degrees, above it −0.5 to +0.5. The body of the next message.
    pub(crate) fn next_body(&mut self, time_created: &str) -> Value {
        let step = self.random.unit();
        self.temperature += if self.temperature < self.scales.temperature_max { step * 1.5 - 0.25 } else { step - 0.5 };
        let Scales { temperature_min, temperature_max, pressure_min, pressure_max, ambient } = self.scales;
        let span = temperature_max - temperature_min;
        let risen = if span == 0.0 { 0.0 } else { (self.temperature - temperature_min) / span };
        let pressure = pressure_min + risen * (pressure_max - pressure_min);
        let humidity = 24 + self.random.below(3);
        json!({
            "machine": { "temperature": self.temperature, "pressure": pressure },
            "ambient": { "temperature": ambient + self.random.unit() - 0.5, "humidity": humidity },
            "timeCreated": time_created,
        })
    }
}

/// A small generator (splitmix64): the same seed gives the same day.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to, not with, 1.
    fn unit(&mut self) -> f64 {
        // 53 bits are what a double holds.
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A random UUID (version 4) in its usual spelling.
pub(crate) fn batch_id(random: &mut Random) -> String {
    let (high, low) = (random.next(), random.next());
    let high = (high & 0xffff_ffff_ffff_0fff) | 0x4000;
    let low = (low & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temperatures(seed: u64, steps: usize) -> Vec<f64> {
        let mut sensor = Sensor::new(Scales::default(), seed);
        (0..steps).map(|_| sensor.next_body("t")["machine"]["temperature"].as_f64().unwrap()).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_day() {
        assert_eq!(temperatures(7, 100), temperatures(7, 100));
        assert_ne!(temperatures(7, 100), temperatures(8, 100));
    }

    #[test]
    fn it_warms_by_half_a_degree_a_step_and_stays_around_the_maximum() {
        let day = temperatures(1, 1_000);
        let mut before = 21.0;
        for now in &day {
            let step = now - before;
            let range = if before < 100.0 { -0.25..1.25 } else { -0.5..0.5 };
            assert!(range.contains(&step), "{step} at {before}");
            before = *now;
        }
        let after_hundred_steps = day[99] - 21.0;
        assert!((40.0..60.0).contains(&after_hundred_steps), "{after_hundred_steps}");
        assert!(day[500..].iter().all(|now| (90.0..115.0).contains(now)));
    }

    #[test]
    fn the_body_has_the_known_shape() {
        let mut sensor = Sensor::new(Scales::default(), 3);
        for _ in 0..200 {
            let body = sensor.next_body("2024-05-01T10:00:00.1234567Z");
            let temperature = body["machine"]["temperature"].as_f64().unwrap();
            let pressure = body["machine"]["pressure"].as_f64().unwrap();
            assert!((pressure - (1.0 + (temperature - 21.0) * 9.0 / 79.0)).abs() < 1e-9);
            assert!((20.5..21.5).contains(&body["ambient"]["temperature"].as_f64().unwrap()));
            assert!((24..=26).contains(&body["ambient"]["humidity"].as_u64().unwrap()));
            assert_eq!(body["timeCreated"], "2024-05-01T10:00:00.1234567Z");
        }
    }

    #[test]
    fn a_reset_goes_back_to_the_start() {
        let mut sensor = Sensor::new(Scales::default(), 3);
        for _ in 0..50 {
            sensor.next_body("t");
        }
        sensor.reset();
        let temperature = sensor.next_body("t")["machine"]["temperature"].as_f64().unwrap();
        assert!((20.75..22.25).contains(&temperature));
    }

    #[test]
    fn a_batch_id_is_a_uuid() {
        let id = batch_id(&mut Random::new(5));
        let parts: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert!(id.split('-').nth(2).unwrap().starts_with('4'));
        assert!(id.split('-').nth(3).unwrap().starts_with(['8', '9', 'a', 'b']));
    }
}
