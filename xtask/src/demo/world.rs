//! The demo's hub and edge: set up, started, killed, ended; and one place that waits for all that happens.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::folder::{self, Folder};
use super::manifest::{FILTER, SOURCE, manifest};
use super::program::{Event, Program, tail};
use crate::run::{Outcome, Run};

/// The edge device.
pub(crate) const DEVICE: &str = "demo-edge";
/// Modules of the load that send to the hub alone.
pub(crate) const LOAD_TO_HUB: [&str; 2] = ["load-1", "load-2"];
/// Modules of the load that send to the hub and to the sink.
pub(crate) const LOAD_TO_BOTH: [&str; 2] = ["load-3", "load-4"];
/// The module of the load that receives.
pub(crate) const LOAD_SINK: &str = "load-sink";
/// What the load's modules send to.
pub(crate) const LOAD_OUTPUT: &str = "load";

pub(crate) const HUB: &str = "skerry-hub";
pub(crate) const EDGE: &str = "skerry-edge";

const MQTTS: u16 = 8883;
const HTTPS: u16 = 8443;
/// Names the edge to containers, for whom an address of ours is their own.
const EDGE_NAME: &str = "skerry-demo";
/// Begins the names of the containers, and is the name of their network.
const CONTAINERS: &str = "skerry-demo";
/// What hub and edge say once everything is open.
const READY: &str = "is ready as";
const START_MAX: Duration = Duration::from_secs(60);
/// From an empty edge to the first measurement that has gone through the filter to the hub.
const FIRST_ALERT_MAX: Duration = Duration::from_secs(120);
const END_MAX: Duration = Duration::from_secs(30);

/// What is waited for, and how long.
pub(crate) struct Wait<'a> {
    pub(crate) what: &'a str,
    pub(crate) limit: Duration,
}

/// A wait that nothing but its end fulfils.
enum Waited {
    Fulfilled,
    TimedOut,
}

/// Everything the demo started.
pub(crate) struct World {
    pub(crate) folder: Folder,
    hub_address: Ipv4Addr,
    edge_address: Ipv4Addr,
    containers: bool,
    sender: Sender<Event>,
    events: Receiver<Event>,
    started: Instant,
    /// In order of their start.
    programs: Vec<(&'static str, Program)>,
}

impl World {
    pub(crate) fn new(
        folder: Folder,
        hub_address: Ipv4Addr,
        edge_address: Ipv4Addr,
        containers: bool,
    ) -> Outcome<World> {
        for address in [hub_address, edge_address] {
            for port in [MQTTS, HTTPS] {
                let place = SocketAddr::V4(SocketAddrV4::new(address, port));
                TcpListener::bind(place)
                    .map_err(|cause| format!("{place} cannot be listened at (is another demo running?): {cause}"))?;
            }
        }
        let (sender, events) = channel();
        tell_interrupts(sender.clone())?;
        Ok(World {
            folder,
            hub_address,
            edge_address,
            containers,
            sender,
            events,
            started: Instant::now(),
            programs: Vec::new(),
        })
    }

    /// Hub, edge device, edge and modules, up to the first measurement that went all the way.
    pub(crate) fn set_up(&mut self, accounted: bool) -> Outcome {
        self.start_hub()?;
        self.cli(&["login", "--hub-dir", &self.folder.text("hub")])?;
        self.cli(&["device", "create", "--edge", DEVICE])?;
        let connection = self.cli(&["device", "connection-string", DEVICE])?;
        folder::write(&self.folder.path("edge-connection-string"), &connection)?;
        folder::write(&self.folder.path("edge.toml"), &self.edge_settings())?;
        let manifest = manifest(&self.folder, self.containers, accounted);
        folder::write(&self.folder.path("manifest.json"), &format!("{manifest:#}\n"))?;
        self.cli(&["deploy", "apply", DEVICE, "--manifest", &self.folder.text("manifest.json")])?;
        self.start_edge()?;
        let module = if accounted { FILTER } else { SOURCE };
        self.step(&format!("waiting for the first message of {module} at the hub"));
        let mut command = self.command("skerry");
        command.env("SKERRY_CONFIG_DIR", self.folder.path("login"));
        command.args(["events", "--from", "oldest", "--count", "1", "--device", DEVICE, "--module", module]);
        let wait = Wait { what: "the first message of a module at the hub", limit: FIRST_ALERT_MAX };
        let status = self.run_to_end("skerry", &mut command, &wait, |_| {})?;
        if status.success() { Ok(()) } else { Err(format!("`skerry events` ended with {status}")) }
    }

    fn edge_settings(&self) -> String {
        let text = |value: String| Value::from(value).to_string();
        let (engine, name) = match self.containers {
            true => ("/var/run/docker.sock", EDGE_NAME.to_owned()),
            false => ("", self.edge_address.to_string()),
        };
        let address = self.edge_address;
        format!(
            "data_dir = {}\nmodules_dir = {}\nhostname = \"{name}\"\n\n\
             [provisioning]\nconnection_string_file = {}\n\n\
             [upstream]\ntrust = {}\nmqtt_port = {MQTTS}\nhttps_port = {HTTPS}\n\n\
             [hub]\nmqtt = [\"{address}:{MQTTS}\"]\nhttps = [\"{address}:{HTTPS}\"]\n\n\
             [container]\nengine = \"{engine}\"\nnetwork = \"{CONTAINERS}\"\nname_prefix = \"{CONTAINERS}-\"\n\n\
             [process]\ncontrol_group = \"skerry-demo\"\n",
            text(self.folder.text("edge")),
            text(self.folder.modules().to_string_lossy().into_owned()),
            text(self.folder.text("edge-connection-string")),
            text(self.folder.text("hub/ca.pem")),
        )
    }

    /// A program of the demo, without what the environment says to Skerry's programs.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.program(program));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SKERRY_")) {
            command.env_remove(name);
        }
        command
    }

    /// Runs the command line and gives what it says.
    fn cli(&self, args: &[&str]) -> Outcome<String> {
        let login = self.folder.path("login");
        let run = Run::new(self.folder.program("skerry")).args(args).env("SKERRY_CONFIG_DIR", login);
        run.env("SKERRY_PROFILE", "default").text()
    }

    pub(crate) fn start_hub(&mut self) -> Outcome {
        let mut command = self.command(HUB);
        command.arg("--data-dir").arg(self.folder.path("hub"));
        command.args(["--name", &self.hub_address.to_string()]);
        command.args(["--listen-mqtt", &format!("{}:{MQTTS}", self.hub_address)]);
        command.args(["--listen-https", &format!("{}:{HTTPS}", self.hub_address)]);
        self.start(HUB, &mut command)?;
        self.wait_for_ready(HUB)
    }

    pub(crate) fn start_edge(&mut self) -> Outcome {
        let mut command = self.command(EDGE);
        command.arg("--config").arg(self.folder.path("edge.toml"));
        self.start(EDGE, &mut command)?;
        self.wait_for_ready(EDGE)
    }

    fn wait_for_ready(&mut self, program: &'static str) -> Outcome {
        let wait = Wait { what: &format!("{program} being ready"), limit: START_MAX };
        self.wait(&wait, |who, line| who == program && line.contains(READY))?;
        self.step(&format!("{program} is ready"));
        Ok(())
    }

    /// The address of the edge's local hub.
    pub(crate) fn edge_host(&self) -> String {
        self.edge_address.to_string()
    }

    /// Starts a program whose end is a failure until it is taken away.
    pub(crate) fn start(&mut self, name: &'static str, command: &mut Command) -> Outcome {
        let program = Program::start(name, command, &self.folder.path("logs"), &self.sender)?;
        self.programs.push((name, program));
        Ok(())
    }

    /// Starts a program and waits until it ends; `hear` gets its lines.
    pub(crate) fn run_to_end(
        &mut self,
        name: &'static str,
        command: &mut Command,
        wait: &Wait<'_>,
        hear: impl FnMut(&str),
    ) -> Outcome<ExitStatus> {
        self.start(name, command)?;
        self.wait_for_end(name, wait, hear)
    }

    /// Waits until a program ends that is to end; `hear` gets its lines.
    pub(crate) fn wait_for_end(
        &mut self,
        name: &'static str,
        wait: &Wait<'_>,
        mut hear: impl FnMut(&str),
    ) -> Outcome<ExitStatus> {
        let deadline = Instant::now() + wait.limit;
        let ended = self.next_until(deadline, Some(name), |who, line| {
            if who == name {
                hear(line);
            }
            false
        })?;
        match ended {
            Waited::TimedOut => Err(late(wait)),
            Waited::Fulfilled => {
                let mut program = self.take(name).ok_or_else(|| format!("{name} does not run"))?;
                program.read_to_end();
                // What it said last.
                while let Ok(event) = self.events.try_recv() {
                    match event {
                        Event::Said { program, line } if program == name => hear(&line),
                        other => self.check(&other, None)?,
                    }
                }
                program.reap()
            }
        }
    }

    /// Waits until a line of a program is the one.
    pub(crate) fn wait(&mut self, wait: &Wait<'_>, found: impl FnMut(&str, &str) -> bool) -> Outcome {
        match self.next_until(Instant::now() + wait.limit, None, found)? {
            Waited::Fulfilled => Ok(()),
            Waited::TimedOut => Err(late(wait)),
        }
    }

    /// Lets things go on for a while; `hear` gets every line.
    pub(crate) fn pause(&mut self, time: Duration, mut hear: impl FnMut(&str, &str)) -> Outcome {
        let told = |who: &str, line: &str| {
            hear(who, line);
            false
        };
        self.next_until(Instant::now() + time, None, told).map(drop)
    }

    fn next_until(
        &mut self,
        deadline: Instant,
        may_end: Option<&'static str>,
        mut found: impl FnMut(&str, &str) -> bool,
    ) -> Outcome<Waited> {
        loop {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Said { program, line }) => {
                    if found(program, &line) {
                        return Ok(Waited::Fulfilled);
                    }
                }
                Ok(event) => {
                    self.check(&event, may_end)?;
                    if matches!(event, Event::Ended { program, id } if may_end == Some(program) && self.runs(program, id))
                    {
                        return Ok(Waited::Fulfilled);
                    }
                }
                // We hold a sender ourselves.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(Waited::TimedOut),
            }
        }
    }

    fn runs(&self, name: &str, id: u32) -> bool {
        self.programs.iter().any(|(known, program)| *known == name && program.id() == id)
    }

    /// An event that must not be is a failure.
    fn check(&mut self, event: &Event, may_end: Option<&'static str>) -> Outcome {
        match event {
            Event::Said { .. } => Ok(()),
            Event::Interrupted => Err("interrupted".to_owned()),
            // One that we killed or took away is nobody's business any more.
            Event::Ended { program, id } if may_end == Some(program) || !self.runs(program, *id) => Ok(()),
            Event::Ended { program, .. } => {
                let status = self.take(program).and_then(|mut ended| ended.reap().ok());
                let status = status.map_or_else(String::new, |status| format!(" with {status}"));
                Err(format!("{program} has ended{status}"))
            }
        }
    }

    fn take(&mut self, name: &str) -> Option<Program> {
        let at = self.programs.iter().position(|(known, _)| *known == name)?;
        Some(self.programs.remove(at).1)
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, name: &str) -> Outcome {
        self.take(name).ok_or_else(|| format!("{name} does not run"))?.kill()?;
        self.step(&format!("{name} is killed"));
        Ok(())
    }

    /// Lets a program read the end of its input.
    pub(crate) fn close_input(&mut self, name: &str) {
        for (_, program) in self.programs.iter_mut().filter(|(known, _)| *known == name) {
            program.close_input();
        }
    }

    /// Says what happens, with the seconds since the start.
    pub(crate) fn step(&self, text: &str) {
        println!("{:6.1} s  {text}", self.started.elapsed().as_secs_f64());
    }

    /// The ends of the logs that tell most.
    pub(crate) fn show_logs(&self) {
        for program in [HUB, EDGE] {
            eprintln!("{}", tail(&self.folder.path("logs"), program));
        }
    }

    /// Ends everything, the last that was started first.
    pub(crate) fn end(&mut self) {
        while let Some((name, program)) = self.programs.pop() {
            let id = program.id();
            program.ask_to_end();
            let deadline = Instant::now() + END_MAX;
            let ended = loop {
                match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                    Ok(Event::Ended { id: ended, .. }) if ended == id => break true,
                    Ok(_) => {}
                    Err(_) => break false,
                }
            };
            if !ended {
                eprintln!("{name} did not end within {} s and is killed", END_MAX.as_secs());
            }
        }
        if std::mem::take(&mut self.containers) {
            remove_containers();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.end();
    }
}

fn late(wait: &Wait<'_>) -> String {
    format!("{} took longer than {} s", wait.what, wait.limit.as_secs())
}

/// Containers outlive their edge by design; those of a demo are of no use without it.
fn remove_containers() {
    let filter = format!("name=^/{CONTAINERS}-");
    let listed = Run::new("docker").args(["ps", "--all", "--quiet", "--filter", &filter]).text().unwrap_or_default();
    let ids: Vec<&str> = listed.split_whitespace().collect();
    let removed = match ids.is_empty() {
        true => Ok(String::new()),
        false => Run::new("docker").args(["rm", "--force"]).args(&ids).text(),
    };
    let removed = removed.and_then(|_| Run::new("docker").args(["network", "rm", CONTAINERS]).text());
    if let Err(failure) = removed {
        eprintln!("something of the demo's is left in the engine: {failure}");
    }
}

/// SIGINT and SIGTERM become events.
fn tell_interrupts(events: Sender<Event>) -> Outcome {
    use std::io::Read;
    let failed = |cause: std::io::Error| format!("cannot listen for signals: {cause}");
    let (mut reader, writer) = UnixStream::pair().map_err(failed)?;
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let writer = writer.try_clone().map_err(failed)?;
        signal_hook::low_level::pipe::register(signal, writer).map_err(failed)?;
    }
    std::thread::spawn(move || {
        let mut byte = [0];
        while let Ok(1) = reader.read(&mut byte) {
            let _ = events.send(Event::Interrupted);
        }
    });
    Ok(())
}
