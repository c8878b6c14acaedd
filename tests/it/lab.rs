//! The browser lab's Rust side: what it exports the command line repeats, what it records the page can read, and the server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use burn::tensor::Device;
use hbat::compute::Compute;
use hbat::lab::{Frame, Lab, LabSettings, LaneMethod, agreement};
use hbat::schedule::Preference;
use hbat_backends::DeviceName;
use serde_json::Value;

use crate::support::{hbat, root, skip};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

fn cpu() -> Compute {
    Compute::host(Device::flex())
}

/// Every frame of a lab's only lane.
fn finish(lab: &mut Lab) -> Vec<Frame> {
    let mut frames = Vec::new();
    while !lab.finished(0).expect("a lane") {
        frames.extend(block_on(lab.advance(0)).expect("a step"));
    }
    frames
}

fn records(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a record is JSON")).collect()
}

fn of_kind<'a>(records: &'a [Value], kind: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["kind"] == kind).collect()
}

/// Trains a method in the lab, exports it, and lets the command line repeat it.
fn check_export(method: LaneMethod, preference: Preference) {
    let settings = LabSettings { seed: 3, lanes: vec![method], examples: 80, preference, ..LabSettings::default() };
    let mut lab = block_on(Lab::new(settings, cpu())).expect("a lab");
    let frames = finish(&mut lab);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("exported.toml");
    std::fs::write(&file, lab.run_file(0).expect("a lane")).expect("written");
    let train = |file: &str, output: &str| {
        let output = run(&["train", file, "--quiet", "--output", output], folder.path());
        assert!(output.status.success(), "{method:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    if let Some(judge) = lab.judge_file() {
        std::fs::write(folder.path().join("judge.toml"), judge).expect("written");
        train("judge.toml", "judge");
    }
    train("exported.toml", "run");
    let repeated = records(&std::fs::read_to_string(folder.path().join("run/metrics.jsonl")).expect("metrics"));
    let exported = records(&lab.metrics(0).expect("a lane"));
    let kinds = |records: &[Value]| records.iter().map(|record| record["kind"].clone()).collect::<Vec<_>>();
    assert_eq!(kinds(&exported), kinds(&repeated), "{method:?}");
    let steps = of_kind(&repeated, "step");
    assert!(steps.len() >= 20, "{method:?} takes {} steps", steps.len());
    for (ours, theirs) in of_kind(&exported, "step").into_iter().zip(&steps) {
        for key in ["loss", "penalty", "grad_norm", "learning_rate", "tokens"] {
            let [a, b] = [ours, *theirs].map(|record| record[key].as_f64().expect("a number"));
            assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{method:?}: {key} is {a} in the lab, {b} repeated: {theirs}");
        }
    }
    let last = frames.iter().rev().find_map(|frame| if let Frame::Moment(moment) = frame { Some(moment) } else { None });
    let (ours, theirs) =
        (last.expect("a moment").sft_loss, of_kind(&repeated, "evaluation").last().expect("an end")["sft_nll"].clone());
    assert!((ours - theirs.as_f64().expect("a number")).abs() < 1e-4, "{method:?}: {ours} {theirs}");
}

#[test]
fn the_command_line_repeats_what_the_lab_exports() {
    for method in LaneMethod::ALL {
        check_export(method, Preference::Dpo);
    }
    for method in [LaneMethod::TwoStage, LaneMethod::Hbat, LaneMethod::Sft] {
        check_export(method, Preference::Ppo);
    }
    for preference in [Preference::Rrhf, Preference::Raft] {
        check_export(LaneMethod::Hbat, preference);
    }
}

#[test]
fn exported_weights_are_a_model_that_the_command_line_loads() {
    let lab = block_on(Lab::new(LabSettings::default(), cpu())).expect("a lab");
    let bytes = block_on(lab.safetensors(1)).expect("weights");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let size = lab.settings().model;
    let units = size.config().units();
    assert_eq!(file.len(), units.len());
    let folder = tempfile::tempdir().expect("a folder");
    let [(name, config), _] = size.files();
    std::fs::write(folder.path().join(name), config).expect("written");
    std::fs::write(folder.path().join("model.safetensors"), bytes).expect("written");
    let model = hbat_cli::model::ModelFolder::open(folder.path()).expect("a model");
    let loaded = model.load(cpu(), |_| {}).expect("weights");
    let start = size.policy(cpu()).expect("the start");
    assert!(loaded.tensors().iter().zip(start.tensors()).all(|(a, b)| a.to_data() == b.to_data()));
}

#[test]
fn the_golden_losses_of_the_page_are_the_labs() {
    let text = std::fs::read_to_string(root().join("wasm/www/tests/golden.json")).expect("golden.json");
    let golden: Value = serde_json::from_str(&text).expect("JSON");
    let settings: LabSettings = serde_json::from_value(golden["settings"].clone()).expect("settings");
    let mut lab = block_on(Lab::new(settings, cpu())).expect("a lab");
    let frames = finish(&mut lab);
    let losses = frames.iter().filter_map(|frame| if let Frame::Step { loss, .. } = frame { Some(*loss) } else { None });
    let expected = golden["losses"].as_array().expect("a list");
    assert_eq!(expected.len(), 20);
    for (loss, expected) in losses.zip(expected) {
        let expected = expected.as_f64().expect("a number");
        assert!((loss - expected).abs() < 1e-4, "{loss} {expected}: make it anew, as examples/lab.rs says");
    }
}

#[test]
fn a_gpu_that_computes_the_same_passes_the_check() {
    let device = match hbat_backends::open(DeviceName::Wgpu(0)) {
        Ok(device) => device,
        Err(error) => return skip(&error.to_string()),
    };
    let mut told = Vec::new();
    let computes = [cpu(), Compute::device(device)];
    let mut progress = |done, total| told.push((done, total));
    let agreement = block_on(agreement(&LabSettings::default(), 5, computes, &mut progress)).expect("a check");
    assert_eq!((agreement.steps, told.last()), (4, Some(&(4, 4))));
    assert_eq!(agreement.rows.iter().map(|row| row.what).collect::<Vec<_>>(), ["loss", "gradients", "importance", "weights"]);
    assert!(agreement.rows.iter().all(|row| row.ok && row.largest > 0.0), "{:?}", agreement.rows);
}

fn run(arguments: &[&str], folder: &Path) -> Output {
    Command::new(hbat()).args(arguments).current_dir(folder).output().expect("hbat starts")
}

#[test]
fn recordings_and_ghosts_are_written_and_wrong_settings_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let small = ["record", "--set", "examples=32", "--set", "lanes=[\"two-stage\",\"hbat\"]"];
    let output = run(&[&small[..], &["-o", "r.json", "--ghosts", "g.json", "--seeds", "2"]].concat(), folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("HBAT against Two-stage, by hypervolume: "));
    let read = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(folder.path().join(name)).expect("a file")).expect("JSON")
    };
    let (recording, ghosts) = (read("r.json"), read("g.json"));
    assert_eq!(recording[0]["kind"], "header");
    let recording = recording.as_array().expect("a list");
    assert_eq!(of_kind(recording, "step").len(), 16);
    assert_eq!(of_kind(recording, "finished").len(), 2);
    assert_eq!(ghosts["lanes"][1]["method"], "hbat");
    assert_eq!(ghosts["lanes"][1]["points"].as_array().expect("points").len(), 2);
    let output = run(&["record", "-o", "r.json", "--set", "beta=-1"], folder.path());
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(text.contains("`beta` is -1, but it must be between 0.01 and 2"), "{text}");
}

/// `hbat lab` on a free port, ended when dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let mut command = Command::new(hbat());
        command.args(["lab", "--port", "0", "--dir"]).arg(folder).stdout(Stdio::piped());
        let mut child = command.spawn().expect("hbat starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        let address = address.unwrap_or_else(|| panic!("no address in {line:?}")).to_string();
        Self { child, address }
    }

    /// Head and body of an answer.
    fn get(&self, path: &str, accept: &str) -> (String, Vec<u8>) {
        self.ask(&format!("GET {path} HTTP/1.1\r\nAccept-Encoding: {accept}"))
    }

    /// The same of a request that begins so.
    fn ask(&self, begin: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let request = format!("{begin}\r\nHost: lab\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        (String::from_utf8_lossy(&answer[..end]).to_lowercase(), answer[end + 4..].to_vec())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn page() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in [("index.html", "<title>lab</title>".into()), ("a.wasm", "\0asm".repeat(1000)), ("b.js", "let x".into())]
    {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    folder
}

#[test]
fn the_server_sends_the_page_with_the_headers_that_browsers_need() {
    let page = page();
    let server = Server::start(page.path());
    let (head, body) = server.get("/", "identity");
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: text/html"), "{head}");
    assert!(
        head.contains("cross-origin-opener-policy: same-origin") && head.contains("cross-origin-embedder-policy: require-corp")
    );
    assert_eq!(body, b"<title>lab</title>");
    let (head, body) = server.get("/a.wasm?v=1", "br");
    assert!(head.contains("content-type: application/wasm") && head.contains("content-encoding: br"), "{head}");
    assert!(body.len() < 1000, "{} bytes", body.len());
    assert!(server.get("/b.js", "identity").0.contains("content-type: text/javascript"));
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("a tag").to_owned();
    let (head, body) = server.ask(&format!("GET /a.wasm HTTP/1.1\r\nIf-None-Match: \"x\", {}", tag.replace("w/", "W/")));
    assert!(head.starts_with("http/1.1 304") && body.is_empty(), "{head}");
    assert!(server.ask("GET /b.js HTTP/1.1\r\nIf-None-Match: \"x\"").0.starts_with("http/1.1 200"));
    let (head, _) = server.ask("POST /b.js HTTP/1.1\r\nContent-Length: 0");
    assert!(head.starts_with("http/1.1 405") && head.contains("allow: get, head"), "{head}");
    assert!(server.ask("HEAD /b.js HTTP/1.1").0.starts_with("http/1.1 200"));
    for absent in ["/absent", "/../Cargo.toml", "/%2e%2e/Cargo.toml"] {
        assert!(server.get(absent, "identity").0.starts_with("http/1.1 404"), "{absent}");
    }
}

#[test]
fn a_signal_ends_the_server_as_it_ends_a_run() {
    let page = page();
    let mut server = Server::start(page.path());
    let mut open = TcpStream::connect(&server.address).expect("it listens");
    open.write_all(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n").expect("sent"); // and stays open
    let id = server.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().expect("kill").success());
    assert_eq!(server.child.wait().expect("it ends").code(), Some(130));
}

#[test]
fn what_cannot_be_served_is_said_with_what_to_do() {
    let page = page();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let refused = |arguments: &[&str], part: &str| {
        let output = run(arguments, page.path());
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{text}");
        assert!(text.contains(part), "{text}");
    };
    refused(&["lab", "--dir", ".", "--port", &port], "Choose another --port, or 0 for any that is free");
    refused(&["lab", "--dir", "absent"], "there is no index.html in it");
}
