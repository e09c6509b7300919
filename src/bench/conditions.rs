//! What else happens on the machine while it is measured: other programs, a host that takes the processors away, limited clocks,
//! memory that does not suffice. Read from `/proc` and `/sys`; on systems without them it is not known, and the card says so.

use serde::{Deserialize, Serialize};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long other programs are watched before the first measurement.
const WATCHED: Duration = Duration::from_millis(300);
/// What each core may be wanted by others on average before the machine counts as loaded.
const LOAD_PER_CORE: f64 = 0.25;
/// What others may take of all processors, in per cent: before, and during the run.
const OTHERS: (f64, f64) = (10.0, 5.0);
/// What the host may take away, in per cent.
const STEAL: f64 = 2.0;
/// How much of the time something may wait for memory, in per cent.
const PRESSURE: f64 = 1.0;

/// What else happened on the machine. Shares are in per cent of the time of all processors. What is not known is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// The load average of the last minute before the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_average: Option<f64>,
    /// What other programs took just before the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others_before: Option<f64>,
    /// What other programs took during the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others: Option<f64>,
    /// What the host of a virtual machine took away during the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steal: Option<f64>,
    /// The share of the run in which some program waited for memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_pressure: Option<f64>,
    /// Why clocks were lower than they can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limited_clocks: Option<String>,
    /// The names of those of the above that this system does not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_known: Vec<String>,
}

/// The machine under watch, from before the first measurement on.
pub(super) struct Watch {
    system: System,
    cores: f64,
    before: Conditions,
    start: Instant,
    ticks: Option<Ticks>,
    waited: Option<u64>,
    throttled: Option<u64>,
}

impl Watch {
    /// Looks at the machine for a moment, and watches it from then on.
    pub(super) fn start() -> Watch {
        Watch::of(System { root: "/".into() }, WATCHED)
    }

    fn of(system: System, watched: Duration) -> Watch {
        let first = system.ticks();
        if first.is_some() {
            std::thread::sleep(watched);
        }
        let ticks = system.ticks();
        let before = Conditions {
            load_average: system.load(),
            others_before: first.zip(ticks).and_then(|(first, now)| now.since(first)).map(|shares| shares.others),
            ..Conditions::default()
        };
        Watch { cores: system.cores(), before, start: Instant::now(), ticks, waited: system.waited(), throttled: system.throttled(), system }
    }

    /// Why the machine is not fit to be measured on now.
    pub(super) fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        let Conditions { load_average, others_before, .. } = self.before;
        if let Some(load) = load_average.filter(|load| *load > LOAD_PER_CORE * self.cores) {
            doubts.push(format!("the load average was {load:.2} on {} processors before the run: other programs run, or have just ended", self.cores));
        }
        if let Some(others) = others_before.filter(|others| *others > OTHERS.0) {
            doubts.push(format!("other programs took {others:.0} % of the processors just before the run"));
        }
        doubts
    }

    /// What happened since the start. `gpu`: why the clocks of a GPU are limited, where its driver tells (empty: they are not).
    pub(super) fn end(&self, gpu: Option<Option<String>>) -> (Conditions, Vec<String>) {
        let seconds = self.start.elapsed().as_secs_f64();
        let shares = self.ticks.zip(self.system.ticks()).and_then(|(before, now)| now.since(before));
        let pressure = self.waited.zip(self.system.waited()).map(|(before, now)| 100.0 * now.saturating_sub(before) as f64 / 1e6 / seconds.max(1e-3));
        let throttled = self.throttled.zip(self.system.throttled()).map(|(before, now)| now.saturating_sub(before));
        let limit = self.system.limit();
        let hot = throttled.filter(|times| *times > 0).map(|times| format!("the processor throttled its clock {times} times, because it was too hot"));
        let clocks_known = gpu.is_some() || throttled.is_some() || limit.is_some();
        let conditions = Conditions {
            others: shares.map(|shares| shares.others),
            steal: shares.map(|shares| shares.steal),
            memory_pressure: pressure,
            limited_clocks: gpu.flatten().or(hot).or(limit.flatten()),
            ..self.before.clone()
        };
        let told = [
            ("load_average", conditions.load_average.is_some()),
            ("others_before", conditions.others_before.is_some()),
            ("others", conditions.others.is_some()),
            ("steal", conditions.steal.is_some()),
            ("memory_pressure", conditions.memory_pressure.is_some()),
            ("limited_clocks", clocks_known),
        ];
        let not_known = told.into_iter().filter(|(_, known)| !known).map(|(name, _)| name.to_string()).collect();
        let conditions = Conditions { not_known, ..conditions };
        let mut doubts = self.doubts();
        if let Some(others) = conditions.others.filter(|others| *others > OTHERS.1) {
            doubts.push(format!("other programs took {others:.0} % of the processors during the run"));
        }
        if let Some(steal) = conditions.steal.filter(|steal| *steal > STEAL) {
            doubts.push(format!("the host took {steal:.1} % of the processors away from this virtual machine"));
        }
        if let Some(pressure) = conditions.memory_pressure.filter(|pressure| *pressure > PRESSURE) {
            doubts.push(format!("memory was short: programs waited for it in {pressure:.1} % of the time"));
        }
        doubts.extend(conditions.limited_clocks.clone());
        (conditions, doubts)
    }
}

/// Where the system tells about itself.
struct System {
    root: PathBuf,
}

/// Time that the processors have spent since the system began, in its clock's ticks.
#[derive(Clone, Copy)]
struct Ticks {
    all: u64,
    busy: u64,
    stolen: u64,
    own: u64,
}

#[derive(Clone, Copy)]
struct Shares {
    others: f64,
    steal: f64,
}

impl Ticks {
    fn since(self, before: Ticks) -> Option<Shares> {
        let all = self.all.checked_sub(before.all).filter(|all| *all > 0)? as f64;
        let [busy, own, stolen] = [(self.busy, before.busy), (self.own, before.own), (self.stolen, before.stolen)].map(|(now, then)| now.saturating_sub(then));
        Some(Shares { others: 100.0 * busy.saturating_sub(own) as f64 / all, steal: 100.0 * stolen as f64 / all })
    }
}

impl System {
    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }

    fn load(&self) -> Option<f64> {
        self.read("proc/loadavg")?.split_whitespace().next()?.parse().ok()
    }

    fn cores(&self) -> f64 {
        let counted = self.read("proc/stat").map(|text| text.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count());
        counted.filter(|n| *n > 0).or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1) as f64
    }

    /// `man 5 proc_stat`: user, nice, system, idle, iowait, irq, softirq, steal.
    fn ticks(&self) -> Option<Ticks> {
        let text = self.read("proc/stat")?;
        let all: Vec<u64> = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8).map_while(|n| n.parse().ok()).collect();
        let [user, nice, system, idle, wait, irq, softirq, stolen] = all[..] else { return None };
        let busy = user + nice + system + irq + softirq;
        // `man 5 proc_pid_stat`: after the name in brackets, the 12th and 13th field are the process's time in user and system mode.
        let own = self.read("proc/self/stat")?;
        let fields: Vec<&str> = own.rsplit_once(')')?.1.split_whitespace().collect();
        let own = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(Ticks { all: busy + idle + wait + stolen, busy, stolen, own })
    }

    /// Microseconds in which something waited for memory.
    fn waited(&self) -> Option<u64> {
        let text = self.read("proc/pressure/memory")?;
        text.lines().find(|line| line.starts_with("some "))?.rsplit_once("total=")?.1.trim().parse().ok()
    }

    /// How often the processor has throttled its clocks: Intel's count.
    fn throttled(&self) -> Option<u64> {
        let count =
            |kind: &str| -> Option<u64> { self.read(&format!("sys/devices/system/cpu/cpu0/thermal_throttle/{kind}_throttle_count"))?.trim().parse().ok() };
        Some(count("core")? + count("package").unwrap_or(0))
    }

    /// Whether somebody has set the clocks' limit below what the processor can do.
    fn limit(&self) -> Option<Option<String>> {
        let read = |name: &str| -> Option<u64> { self.read(&format!("sys/devices/system/cpu/cpu0/cpufreq/{name}"))?.trim().parse().ok() };
        let (limit, most) = (read("scaling_max_freq")?, read("cpuinfo_max_freq")?);
        Some((limit < most).then(|| format!("the system limits the processor's clock to {} of {} MHz", limit / 1000, most / 1000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(tempfile::TempDir);

    impl Fake {
        fn new() -> Fake {
            Fake(tempfile::tempdir().unwrap())
        }

        fn write(&self, path: &str, text: &str) -> &Fake {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }

        /// Ticks of the whole machine and of this process.
        fn ticks(&self, user: u64, idle: u64, steal: u64, own: u64) -> &Fake {
            self.write("proc/stat", &format!("cpu  {user} 0 0 {idle} 0 0 0 {steal} 0 0\ncpu0 1\ncpu1 1\nintr 5\n"));
            self.write("proc/self/stat", &format!("7 (a (b) c) R 1 1 1 0 -1 0 0 0 0 0 {own} 0 0 0 20"))
        }

        fn watch(&self) -> Watch {
            Watch::of(System { root: self.0.path().into() }, Duration::ZERO)
        }
    }

    #[test]
    fn a_quiet_machine_gives_no_doubt() {
        let fake = Fake::new();
        fake.write("proc/loadavg", "0.20 0.5 0.5 1/100 7\n").write("proc/pressure/memory", "some avg10=0.00 total=1000\nfull avg10=0.00 total=5\n");
        fake.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq", "3000000\n")
            .write("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "3000000\n");
        let watch = fake.ticks(1000, 1000, 0, 0).watch();
        // We took 990 of 1000 ticks, others 10.
        fake.ticks(2000, 1000, 0, 990);
        let (conditions, doubts) = watch.end(None);
        assert!(doubts.is_empty() && watch.doubts().is_empty(), "{doubts:?}");
        assert_eq!((conditions.load_average, conditions.others, conditions.steal, conditions.memory_pressure), (Some(0.2), Some(1.0), Some(0.0), Some(0.0)));
        // Nothing passed between the two looks before the run.
        assert_eq!(conditions.not_known, ["others_before"]);
    }

    #[test]
    fn what_disturbs_is_said() {
        let fake = Fake::new();
        fake.write("proc/loadavg", "2.40 0.5 0.5 1/100 7\n").write("proc/pressure/memory", "some avg10=0.00 total=0\n");
        fake.write("sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "4\n");
        let watch = fake.ticks(1000, 1000, 0, 0).watch();
        assert!(watch.doubts()[0].contains("load average was 2.40 on 2 processors"));
        fake.ticks(1700, 1000, 300, 400).write("proc/pressure/memory", "some avg10=0.00 total=900000000\n");
        fake.write("sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "9\n");
        let (conditions, doubts) = watch.end(None);
        assert_eq!((conditions.others, conditions.steal), (Some(30.0), Some(30.0)));
        for (doubt, part) in doubts.iter().zip(["load average", "took 30 %", "host took 30.0 %", "memory was short", "throttled its clock 5 times"]) {
            assert!(doubt.contains(part), "{doubt}");
        }
        assert_eq!(doubts.len(), 5);
        let (conditions, doubts) = watch.end(Some(Some("the GPU is too hot".into())));
        assert!(conditions.limited_clocks.as_deref() == Some("the GPU is too hot") && doubts.len() == 5);
    }

    #[test]
    fn where_the_system_tells_nothing_that_is_said() {
        let (conditions, doubts) = Fake::new().watch().end(None);
        assert_eq!(conditions.not_known.len(), 6);
        assert!(doubts.is_empty());
        assert_eq!(Fake::new().watch().end(Some(None)).0.not_known.len(), 5, "a GPU's driver tells about its clocks");
    }
}
