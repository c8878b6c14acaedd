//! `hbat compare`: a reward model's view, a judge behind an API (a stand-in here, over HTTP), and ROUGE against Google's (`goldens/generate/rouge.py`).

use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hbat_cli::comparison::{RougeScore, Tally, Verdict, rouge};
use serde_json::{Value, json};

use crate::cli::{refused, run, train};
use crate::objectives::near;
use crate::support::{golden, hbat};

#[test]
fn rouge_is_googles() {
    let golden = golden("rouge");
    let pairs = golden["pairs"].as_array().expect("pairs");
    assert!(pairs.len() == 200 && pairs.iter().any(|pair| pair["candidate"] == ""));
    for pair in pairs {
        let scores = rouge(pair["candidate"].as_str().unwrap(), pair["reference"].as_str().unwrap());
        for (name, RougeScore { precision, recall, f }) in
            [("rouge1", scores.rouge1), ("rouge2", scores.rouge2), ("rougeL", scores.rouge_l)]
        {
            for (found, expected) in [precision, recall, f].into_iter().zip(pair[name].as_array().expect("three numbers")) {
                near(&format!("{name} of {pair}"), found, expected.as_f64().unwrap());
            }
        }
    }
}

#[test]
fn length_is_controlled_as_scikit_learn_does() {
    let golden = golden("length_control");
    for case in golden["cases"].as_array().expect("cases") {
        let numbers = |key: &str| case[key].as_array().expect("numbers").iter().map(|n| n.as_f64().expect("a number"));
        let results = numbers("won").zip(numbers("longer")).map(|(won, longer)| {
            let verdict = [Verdict::Loss, Verdict::Tie, Verdict::Win][(2.0 * won) as usize];
            (verdict, [longer.max(0.0) as usize, (-longer).max(0.0) as usize])
        });
        let tally = Tally::of(results);
        let found = [tally.length_controlled_win_rate, tally.length_controlled_error];
        for (found, expected) in found.into_iter().zip(numbers("controlled")) {
            near("controlled", found.expect("there are odds"), expected);
        }
    }
}

/// A judge that notes what it is asked and answers, with HTTP's status, as it is told to by the number of the question and its text. A status
/// of 0 is no answer at all.
struct StandIn {
    url: String,
    asked: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
}

impl StandIn {
    fn new(reply: impl Fn(usize, &str) -> (u16, String) + Send + Sync + 'static) -> Self {
        let asked: Arc<Mutex<Vec<(HeaderMap, Value)>>> = Arc::default();
        let (notes, reply) = (asked.clone(), Arc::new(reply));
        let answer = move |headers: HeaderMap, body: String| {
            let body: Value = serde_json::from_str(&body).expect("requests are JSON");
            let question = body["messages"][0]["content"].as_str().expect("a question").to_owned();
            let mut notes = notes.lock().unwrap();
            notes.push((headers, body));
            let (status, said) = reply(notes.len() - 1, &question);
            async move {
                if status == 0 {
                    std::future::pending::<()>().await;
                }
                (StatusCode::from_u16(status).unwrap(), [("retry-after", "0.01")], said)
            }
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let router = Router::new().route("/v1/chat/completions", post(answer));
        let serve = async move { axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await };
        std::thread::spawn(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(serve));
        Self { url, asked }
    }

    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn compare(&self, folder: &Path, more: &[&str]) -> Output {
        let compare = ["compare", "a.jsonl", "b.jsonl", "--judge", &self.url, "--judge-model", "m"];
        let mut command = Command::new(hbat());
        command.args(compare).args(more).current_dir(folder).env("OPENAI_API_KEY", "secret").env("NO_PROXY", "*");
        command.output().unwrap()
    }
}

fn said(text: &str) -> (u16, String) {
    (200, json!({"choices": [{"message": {"role": "assistant", "content": text}}]}).to_string())
}

/// Prefers the answer with the word "good" in it; of two, says nothing that can be understood.
fn prefers_good(_: usize, question: &str) -> (u16, String) {
    let (before, b) = question.split_once("<answer_b>").expect("both answers");
    let (_, a) = before.split_once("<answer_a>").expect("both answers");
    match (a.contains("good"), b.contains("good")) {
        (true, false) => said("A does what was asked.\n\nA"),
        (false, true) => said("B it is.\nBetter: **B**"),
        _ => said("Hard to say."),
    }
}

fn answers(folder: &Path, name: &str, texts: &[&str]) {
    let line = |(i, text): (usize, &&str)| json!({"prompt": format!("question {i}"), "completion": text}).to_string() + "\n";
    std::fs::write(folder.join(name), texts.iter().enumerate().map(line).collect::<String>()).unwrap();
}

#[track_caller]
fn report(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text} {}", String::from_utf8_lossy(&output.stderr)))
}

#[track_caller]
fn fails(output: &Output, code: i32, part: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(code) && text.contains(part) && !text.contains("panicked"),
        "{:?} {text}",
        output.status
    );
}

#[test]
fn a_judge_prefers_answers_and_not_places_and_is_not_asked_twice() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    answers(folder, "a.jsonl", &["good 1", "good 2", "good 3", "good 4", "bad, and long", "same", "good"]);
    answers(folder, "b.jsonl", &["bad", "bad", "bad", "bad", "good", "same", "also good"]);
    let judge = StandIn::new(prefers_good);
    let verdicts = ["--json", "--per-example", "--verdicts", "v.jsonl"];
    let found = report(&judge.compare(folder, &verdicts));
    let by = &found["by_judge"];
    assert_eq!(
        (&by["wins"], &by["losses"], &by["ties"], &by["unclear"]),
        (&4.into(), &1.into(), &1.into(), &1.into()),
        "{found}"
    );
    assert_eq!((&by["win_rate"], &by["decided_win_rate"], &found["prompts"]), (&json!(4.5 / 6.0), &json!(0.8), &7.into()));
    let each: Vec<&str> = found["examples"].as_array().unwrap().iter().map(|e| e["verdict"].as_str().unwrap()).collect();
    assert_eq!(each, ["win", "win", "win", "win", "loss", "tie", "unclear"]);
    {
        let asked = judge.asked.lock().unwrap();
        assert_eq!(asked.len(), 6, "the same answers are not asked about");
        let places: Vec<bool> = asked
            .iter()
            .map(|(_, body)| prefers_good(0, body["messages"][0]["content"].as_str().unwrap()).1.contains("\\nA"))
            .collect();
        assert!(places.contains(&true) && places.contains(&false), "the good answers stood in one place only: {places:?}");
        let (headers, body) = &asked[0];
        assert_eq!(headers["authorization"], "Bearer secret");
        assert_eq!((&body["model"], &body["temperature"]), (&"m".into(), &0.into()));
    }
    assert_eq!(report(&judge.compare(folder, &verdicts)), found);
    assert_eq!(judge.count(), 6, "every verdict was kept");
    let other = [&verdicts[..], &["--request", "{\"temperature\": null, \"top_p\": 0.5}"]].concat();
    assert_eq!(report(&judge.compare(folder, &other))["by_judge"]["wins"], 4);
    assert_eq!(judge.count(), 12, "other settings are another judge");
    let body = judge.asked.lock().unwrap()[11].1.clone();
    assert_eq!((&body["top_p"], body.get("temperature")), (&json!(0.5), None));
}

#[test]
fn a_busy_judge_is_asked_again_and_one_that_refuses_is_not() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    answers(folder, "a.jsonl", &["good", "good"]);
    answers(folder, "b.jsonl", &["bad", "bad"]);
    let busy = StandIn::new(|number, question| match number {
        0 => (429, "{\"error\": {\"message\": \"slow down\"}}".into()),
        1 => (503, "<html>".into()),
        _ => prefers_good(number, question),
    });
    let found = report(&busy.compare(folder, &["--json", "--concurrency", "1"]));
    assert_eq!((&found["by_judge"]["wins"], busy.count()), (&2.into(), 4));
    let always = StandIn::new(|_, _| (500, "{\"error\": {\"message\": \"out of order\"}}".into()));
    fails(&always.compare(folder, &["--concurrency", "1"]), 70, "after 8 tries: HTTP 500: out of order");
    let refuses = StandIn::new(|_, _| (401, "{\"error\": {\"message\": \"wrong key\"}}".into()));
    fails(&refuses.compare(folder, &["--concurrency", "1"]), 78, "refuses (HTTP 401): wrong key");
    assert_eq!(refuses.count(), 1);
    let odd = StandIn::new(|_, _| (200, "[1]".into()));
    fails(&odd.compare(folder, &[]), 78, "no choices[0].message.content in \"[1]\"");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = StandIn { url: format!("http://{free}"), ..busy };
    fails(&nobody.compare(folder, &[]), 70, "after 1 try: ");
}

#[test]
fn a_question_that_is_refused_counts_apart_and_costs_no_other_reply() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    answers(folder, "a.jsonl", &["good", "good", "much too long", "good"]);
    answers(folder, "b.jsonl", &["bad", "bad", "bad", "bad"]);
    let narrow = StandIn::new(|number, question| match question.contains("too long") {
        true => (400, "{\"error\": {\"message\": \"maximum context length\"}}".into()),
        false => prefers_good(number, question),
    });
    let verdicts = ["--json", "--verdicts", "v.jsonl"];
    for _ in 0..2 {
        let output = narrow.compare(folder, &verdicts);
        let found = report(&output);
        assert_eq!((&found["by_judge"]["wins"], &found["by_judge"]["refused"]), (&3.into(), &1.into()), "{found}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains("a.jsonl, line 3: ") && told.contains("maximum context length"), "{told}");
    }
    assert_eq!(narrow.count(), 5, "what was refused is asked again, and nothing else");
    let chaste = StandIn::new(|number, question| match question.contains("too long") {
        true => (200, json!({"choices": [{"message": {"content": null, "refusal": "not about that"}}]}).to_string()),
        false => prefers_good(number, question),
    });
    let output = chaste.compare(folder, &["--json"]);
    let (found, told) = (report(&output), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(found["by_judge"]["refused"] == 1 && told.contains("not about that"), "{found} {told}");
    let leaves = StandIn::new(|number, question| if number == 1 { (403, String::new()) } else { prefers_good(number, question) });
    fails(&leaves.compare(folder, &["--verdicts", "w.jsonl", "--concurrency", "4"]), 78, "refuses (HTTP 403)");
    let kept = std::fs::read_to_string(folder.join("w.jsonl")).unwrap().lines().count();
    assert_eq!(kept, 3, "what was being asked is kept");
}

#[test]
fn an_interrupted_judge_keeps_its_verdicts() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    answers(folder, "a.jsonl", &["good", "good", "good"]);
    answers(folder, "b.jsonl", &["bad", "bad", "bad"]);
    let slow = StandIn::new(|number, question| if number == 2 { (0, String::new()) } else { prefers_good(number, question) });
    // Without certificates, which plain HTTP does not need.
    let arguments = ["compare", "a.jsonl", "b.jsonl", "--judge", &slow.url, "--judge-model", "m", "--verdicts", "v.jsonl"];
    let arguments = [&arguments[..], &["--concurrency", "1", "--json"]].concat();
    let command = || {
        let mut command = Command::new(hbat());
        command.args(&arguments).current_dir(folder).env("NO_PROXY", "*");
        command.env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent");
        command
    };
    let mut child = command().spawn().unwrap();
    while slow.count() < 3 {
        assert_eq!(child.try_wait().unwrap(), None, "it waits for a reply");
        std::thread::sleep(Duration::from_millis(5));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let found = report(&command().output().unwrap());
    assert_eq!((&found["by_judge"]["wins"], slow.count()), (&3.into(), 4), "only the question without a reply is put again");
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    answers(folder, "a.jsonl", &["x", "y"]);
    answers(folder, "b.jsonl", &["x"]);
    refused(
        &["compare", "a.jsonl", "b.jsonl", "--rouge"],
        folder,
        65,
        &["b.jsonl: has no answer", "a.jsonl, line 2 (\"question 1\")"],
    );
    refused(&["compare", "a.jsonl", "none.jsonl", "--rouge"], folder, 65, &["none.jsonl: there is no such file"]);
    let judge = |more: &[&'static str]| {
        [&["compare", "b.jsonl", "a.jsonl", "--judge", "http://127.0.0.1:9", "--judge-model", "m"], more].concat()
    };
    refused(&judge(&["--question", "best"]), folder, 78, &["--question best", "neither helpful nor summary"]);
    refused(&judge(&["--request", "7"]), folder, 78, &["--request 7", "JSON object"]);
    refused(&judge(&["--verdicts", "a.jsonl"]), folder, 65, &["a.jsonl: line 1 is no verdict"]);
    refused(&["compare", "b.jsonl", "a.jsonl", "--judge", "here", "--judge-model", "m"], folder, 78, &["--judge here"]);
    let instructions = "{\"instruction\": \"Sing.\", \"output\": \"la\", \"prompt\": \"p\", \"completion\": \"c\"}\n";
    std::fs::write(folder.join("both.jsonl"), instructions).unwrap();
    let ambiguous = ["compare", "both.jsonl", "both.jsonl", "--rouge"];
    refused(&ambiguous, folder, 65, &["fit more than one format", "--format", "--others-format"]);
    let told = [&ambiguous[..], &["--format", "alpaca", "--others-format", "alpaca", "--json"]].concat();
    assert_eq!(report(&run(&told, folder))["rouge"]["rouge1"]["f"], 1.0);
    let plain = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n\
                 ### Instruction:\nSing.\n\n### Response:";
    std::fs::write(folder.join("plain.jsonl"), json!({"prompt": plain, "completion": "la"}).to_string()).unwrap();
    std::fs::write(folder.join("alpaca.jsonl"), "{\"instruction\": \"Sing.\", \"output\": \"la\"}\n").unwrap();
    for pair in [["plain.jsonl", "alpaca.jsonl"], ["alpaca.jsonl", "plain.jsonl"]] {
        let rouge = run(&["compare", pair[0], pair[1], "--rouge", "--json"], folder);
        assert_eq!(report(&rouge)["prompts"], 1, "{pair:?}");
    }
    let rouge = run(&["compare", "b.jsonl", "a.jsonl", "--rouge", "--json"], folder);
    assert_eq!(report(&rouge)["rouge"]["rouge1"]["f"], 1.0);
}

/// A reward model of the toy's, and answers that a policy of the toy's gave.
#[test]
fn a_reward_model_compares_what_a_policy_answers() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let settings = ["methods=[\"reward-model\"]", "reward.batch_size=16", "reward.epochs=1", "toy.preferences=64"];
    assert!(run(&train("judge", &settings), folder).status.success());
    assert!(run(&train("policy", &["methods=[\"sft\"]"]), folder).status.success());
    let pair = |prompt: &str, chosen: &str| json!({"prompt": prompt, "chosen": chosen, "rejected": "1"}).to_string() + "\n";
    let pairs = ["copy 4 7 =", "sort 3 1 2 =", "reverse 5 6 ="].map(|prompt| pair(prompt, "1 2 see ya"));
    std::fs::write(folder.join("pairs.jsonl"), pairs.concat()).unwrap();

    let generate = |more: &[&'static str]| {
        let generate = ["generate", "-m", "policy/last", "--prompts", "pairs.jsonl", "--max-new-tokens", "6"];
        run(&[&generate, more].concat(), folder)
    };
    let json = generate(&["--json"]).stdout;
    assert_eq!(generate(&["--json", "--batch", "2"]).stdout, json, "answers do not depend on who is answered together");
    let first = String::from_utf8_lossy(&generate(&["--json", "-n", "1"]).stdout).into_owned();
    assert!(String::from_utf8_lossy(&json).starts_with(&first) && first.lines().count() == 1);
    let answer: Value = serde_json::from_str(&first).unwrap();
    let text = String::from_utf8_lossy(&generate(&["-n", "1"]).stdout).into_owned();
    assert_eq!(
        (answer["prompt"].as_str(), answer["completion"].as_str()),
        (Some("copy 4 7 ="), Some(text.trim_end_matches('\n')))
    );
    assert!(["stop", "length"].contains(&answer["finish"].as_str().unwrap()) && answer["tokens"].as_u64() <= Some(6));

    // `eval` knows no answers that were cut off.
    let json = String::from_utf8_lossy(&json).replace("\"length\"", "\"stop\"");
    std::fs::write(folder.join("ours.jsonl"), &json).unwrap();
    let compare = ["compare", "ours.jsonl", "pairs.jsonl", "--json", "--per-example", "--reward-model"];
    let found = report(&run(&[&compare[..], &["judge/last"]].concat(), folder));
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let as_pairs = lines.iter().map(|line| pair(line["prompt"].as_str().unwrap(), line["completion"].as_str().unwrap()));
    let as_pairs: String = as_pairs.collect::<String>().replace("\"rejected\":\"1\"", "\"rejected\":\"1 2 see ya\"");
    std::fs::write(folder.join("both.jsonl"), as_pairs).unwrap();
    let judged = report(&run(&["eval", "-m", "judge/last", "--preferences", "both.jsonl", "--json"], folder));
    let (by, all) = (&found["by_reward"], &judged["preference_rewards"]);
    for (ours, evals) in [("answers", "chosen"), ("others", "rejected"), ("win_rate", "accuracy")] {
        near(ours, by[ours].as_f64().unwrap(), all[evals].as_f64().unwrap());
    }
    assert_eq!((&by["compared"], found["examples"].as_array().unwrap().len()), (&3.into(), 3));

    std::fs::write(folder.join("silent.jsonl"), "{\"prompt\": \"copy 4 7 =\", \"completion\": \"\"}\n").unwrap();
    let silent = report(&run(&["compare", "silent.jsonl", "pairs.jsonl", "--reward-model", "judge/last", "--json"], folder));
    assert!(silent["by_reward"]["answers"].is_number(), "a model may say nothing: {silent}");
    let cut = ["stop", "length"].map(|finish| {
        let line = json!({"prompt": "copy 4 7 =", "completion": "4", "finish": finish}).to_string();
        std::fs::write(folder.join("cut.jsonl"), line).unwrap();
        report(&run(&["compare", "cut.jsonl", "pairs.jsonl", "--reward-model", "judge/last", "--json"], folder))
    });
    assert_ne!(cut[0]["by_reward"]["answers"], cut[1]["by_reward"]["answers"], "an answer that was cut off has no end");
    assert_eq!((&cut[0]["answers"]["cut_off"], &cut[1]["answers"]["cut_off"]), (&0.into(), &1.into()));
    refused(&[&compare[..], &["policy/last"]].concat(), folder, 65, &["policy/last is a language model"]);
}
