//! From two readings of the machine to one measurement, as the JSON that goes out.

use serde_json::{Map, Value, json};

use crate::counters::{DiskTraffic, Interface, Memory, Processor};
use crate::settings::Settings;

/// What was read at one moment; each part is missing where the machine does not offer it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Reading {
    /// Monotonic, seconds; only differences mean something.
    pub(crate) at: f64,
    pub(crate) uptime: Option<f64>,
    pub(crate) processor: Option<Processor>,
    pub(crate) load: Option<[f64; 3]>,
    pub(crate) memory: Option<Memory>,
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) disk_traffic: Vec<DiskTraffic>,
    pub(crate) file_systems: Vec<FileSystem>,
    pub(crate) temperatures: Vec<Temperature>,
}

/// Room on one mounted file system, bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FileSystem {
    pub(crate) folder: String,
    pub(crate) device: String,
    pub(crate) kind: String,
    pub(crate) total: u64,
    /// For users other than root.
    pub(crate) available: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Temperature {
    pub(crate) sensor: String,
    pub(crate) celsius: f64,
}

/// The body of a message. Rates need the reading before; the first measurement goes without them.
pub(crate) fn body(time: &str, host: &str, before: Option<&Reading>, now: &Reading, settings: &Settings) -> Value {
    let mut body = Map::new();
    body.insert("time".to_owned(), json!(time));
    body.insert("host".to_owned(), json!(host));
    if let Some(uptime) = now.uptime {
        body.insert("uptimeSeconds".to_owned(), json!(uptime));
    }
    let mut put = |name: &str, wanted: bool, value: Option<Value>| {
        if let Some(value) = value.filter(|_| wanted) {
            body.insert(name.to_owned(), value);
        }
    };
    put("cpu", settings.cpu, cpu(before, now));
    put("memory", settings.memory, now.memory.map(|memory| memory_body(&memory)));
    put("disks", settings.disks, some(now.file_systems.iter().map(file_system).collect()));
    put("diskTraffic", settings.disks, some(disk_rates(before, now)));
    put("network", settings.network, some(network_rates(before, now)));
    let temperature = |reading: &Temperature| json!({ "sensor": reading.sensor, "celsius": reading.celsius });
    put("temperatures", settings.temperatures, some(now.temperatures.iter().map(temperature).collect()));
    Value::Object(body)
}

/// An empty list says nothing; a machine without sensors sends none.
fn some(list: Vec<Value>) -> Option<Value> {
    (!list.is_empty()).then_some(Value::Array(list))
}

fn cpu(before: Option<&Reading>, now: &Reading) -> Option<Value> {
    let mut cpu = Map::new();
    if let Some(processor) = now.processor {
        cpu.insert("cores".to_owned(), json!(processor.cores));
        let earlier = before.and_then(|before| before.processor);
        if let Some(percent) = earlier.and_then(|earlier| busy_percent(&earlier, &processor)) {
            cpu.insert("percent".to_owned(), json!(percent));
        }
    }
    for (name, load) in ["load1", "load5", "load15"].iter().zip(now.load.into_iter().flatten()) {
        cpu.insert((*name).to_owned(), json!(load));
    }
    (!cpu.is_empty()).then_some(Value::Object(cpu))
}

/// Share of all processors that did something, 0 to 100. Nothing when no time passed or counters went back.
fn busy_percent(before: &Processor, now: &Processor) -> Option<f64> {
    let total = now.total.checked_sub(before.total).filter(|total| 0 < *total)?;
    let idle = now.idle.checked_sub(before.idle)?;
    Some(percent(total.checked_sub(idle)?, total))
}

fn memory_body(memory: &Memory) -> Value {
    json!({
        "totalBytes": memory.total,
        "availableBytes": memory.available,
        "usedPercent": percent(memory.total.saturating_sub(memory.available), memory.total),
        "swapTotalBytes": memory.swap_total,
        "swapUsedBytes": memory.swap_total.saturating_sub(memory.swap_free),
    })
}

fn file_system(room: &FileSystem) -> Value {
    json!({
        "folder": room.folder,
        "device": room.device,
        "fileSystem": room.kind,
        "totalBytes": room.total,
        "availableBytes": room.available,
        "usedPercent": percent(room.total.saturating_sub(room.available), room.total),
    })
}

fn disk_rates(before: Option<&Reading>, now: &Reading) -> Vec<Value> {
    let Some((before, seconds)) = since(before, now) else { return Vec::new() };
    let rates = |disk: &DiskTraffic| {
        let earlier = before.disk_traffic.iter().find(|earlier| earlier.name == disk.name)?;
        Some(json!({
            "disk": disk.name,
            "readBytesPerSecond": rate(earlier.read_bytes, disk.read_bytes, seconds)?,
            "writtenBytesPerSecond": rate(earlier.written_bytes, disk.written_bytes, seconds)?,
        }))
    };
    now.disk_traffic.iter().filter_map(rates).collect()
}

fn network_rates(before: Option<&Reading>, now: &Reading) -> Vec<Value> {
    let Some((before, seconds)) = since(before, now) else { return Vec::new() };
    let rates = |interface: &Interface| {
        let earlier = before.interfaces.iter().find(|earlier| earlier.name == interface.name)?;
        Some(json!({
            "interface": interface.name,
            "receivedBytesPerSecond": rate(earlier.received_bytes, interface.received_bytes, seconds)?,
            "sentBytesPerSecond": rate(earlier.sent_bytes, interface.sent_bytes, seconds)?,
            "problems": interface.problems,
        }))
    };
    now.interfaces.iter().filter_map(rates).collect()
}

fn since<'a>(before: Option<&'a Reading>, now: &Reading) -> Option<(&'a Reading, f64)> {
    let before = before?;
    let seconds = now.at - before.at;
    (0.0 < seconds).then_some((before, seconds))
}

/// Whole units per second; nothing when the counter started anew.
fn rate(before: u64, now: u64, seconds: f64) -> Option<f64> {
    Some((now.checked_sub(before)? as f64 / seconds).round())
}

/// With one decimal place.
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 1000.0).round() / 10.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(at: f64, busy: u64, received: u64) -> Reading {
        Reading {
            at,
            uptime: Some(100.5),
            processor: Some(Processor { total: 1000 + busy + 75, idle: 75, cores: 2 }),
            load: Some([0.5, 0.25, 0.1]),
            memory: Some(Memory { total: 1000, available: 400, swap_total: 10, swap_free: 4 }),
            interfaces: vec![Interface {
                name: "eth0".to_owned(),
                received_bytes: received,
                sent_bytes: 7,
                problems: 1,
            }],
            disk_traffic: vec![DiskTraffic { name: "vda".to_owned(), read_bytes: 0, written_bytes: received }],
            file_systems: vec![FileSystem {
                folder: "/".to_owned(),
                device: "/dev/vda".to_owned(),
                kind: "ext4".to_owned(),
                total: 1000,
                available: 750,
            }],
            temperatures: vec![Temperature { sensor: "coretemp Package".to_owned(), celsius: 45.5 }],
        }
    }

    #[test]
    fn the_first_measurement_has_no_rates() {
        let body = body("t", "h", None, &reading(0.0, 0, 0), &Settings::default());
        assert_eq!(
            body,
            json!({
                "time": "t", "host": "h", "uptimeSeconds": 100.5,
                "cpu": { "cores": 2, "load1": 0.5, "load5": 0.25, "load15": 0.1 },
                "memory": { "totalBytes": 1000, "availableBytes": 400, "usedPercent": 60.0, "swapTotalBytes": 10, "swapUsedBytes": 6 },
                "disks": [{ "folder": "/", "device": "/dev/vda", "fileSystem": "ext4", "totalBytes": 1000, "availableBytes": 750, "usedPercent": 25.0 }],
                "temperatures": [{ "sensor": "coretemp Package", "celsius": 45.5 }],
            })
        );
    }

    #[test]
    fn rates_come_from_two_readings() {
        let before = reading(10.0, 0, 1000);
        let mut now = reading(12.0, 25, 3000);
        now.processor =
            now.processor.map(|processor| Processor { total: processor.total + 75, idle: 150, ..processor });
        let body = body("t", "h", Some(&before), &now, &Settings::default());
        assert_eq!(body["cpu"]["percent"], 25.0);
        assert_eq!(
            body["network"][0],
            json!({ "interface": "eth0", "receivedBytesPerSecond": 1000.0, "sentBytesPerSecond": 0.0, "problems": 1 })
        );
        assert_eq!(body["diskTraffic"][0]["writtenBytesPerSecond"], 1000.0);
    }

    #[test]
    fn counters_that_start_anew_give_no_rate() {
        let body = body("t", "h", Some(&reading(10.0, 50, 3000)), &reading(12.0, 0, 5), &Settings::default());
        assert!(body["cpu"].get("percent").is_none());
        assert!(body.get("network").is_none());
        assert!(body.get("diskTraffic").is_none());
    }

    #[test]
    fn what_is_switched_off_or_missing_is_left_out() {
        let settings = Settings { disks: false, network: false, cpu: false, memory: false, ..Settings::default() };
        let mut now = reading(12.0, 0, 5);
        now.temperatures.clear();
        assert_eq!(
            body("t", "h", Some(&reading(10.0, 0, 0)), &now, &settings),
            json!({ "time": "t", "host": "h", "uptimeSeconds": 100.5 })
        );
    }
}
