use burn::tensor::Device;
use pollster::block_on;
use serde_json::json;

use super::*;
use crate::consolidation::Rule;
use crate::schedule::Preference;
use crate::toy::skill::Size;

fn settings() -> LabSettings {
    let lanes = vec![LaneMethod::TwoStage, LaneMethod::Hbat];
    LabSettings { lanes, examples: 64, measure_every: 3, ..LabSettings::default() }
}

fn by_ppo() -> LabSettings {
    LabSettings { preference: Preference::Ppo, ..settings() }
}

fn lab(settings: LabSettings) -> Lab {
    block_on(Lab::new(settings, Compute::host(Device::flex()))).unwrap()
}

/// All frames of a lane, up to so many steps.
fn run(lab: &mut Lab, lane: usize, steps: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    let stop =
        |frame: &Frame| matches!(frame, Frame::Finished { .. }) || matches!(frame, Frame::Step { step, .. } if *step == steps);
    while !frames.iter().any(stop) {
        frames.extend(block_on(lab.advance(lane)).unwrap());
    }
    frames
}

fn moments(frames: &[Frame]) -> Vec<Moment> {
    frames.iter().filter_map(|frame| if let Frame::Moment(moment) = frame { Some((**moment).clone()) } else { None }).collect()
}

fn steps(frames: &[Frame]) -> Vec<usize> {
    moments(frames).iter().map(|moment| moment.step).collect()
}

#[test]
fn the_same_settings_give_the_same_frames_and_lanes_do_not_disturb_each_other() {
    let mut first = lab(settings());
    let alone = run(&mut first, 1, usize::MAX);
    let mut second = lab(settings());
    let mut frames = Vec::new();
    while !second.finished(1).unwrap() {
        block_on(second.advance(0)).unwrap();
        frames.extend(block_on(second.advance(1)).unwrap());
    }
    assert_eq!(alone, frames);
    let mut other = lab(LabSettings { seed: 1, ..settings() });
    assert_ne!(alone, run(&mut other, 1, usize::MAX));
}

#[test]
fn frames_come_in_order_and_moments_when_they_are_due() {
    let mut lab = lab(settings());
    let frames = run(&mut lab, 1, usize::MAX);
    let header = lab.header();
    let phases: Vec<_> = header.lanes[1].phases.iter().map(|phase| (phase.name.as_str(), phase.steps)).collect();
    assert_eq!(phases, [("IFA_1", 4), ("HPA_1", 4), ("IFA_2", 4), ("HPA_2", 4)]);
    assert_eq!(steps(&frames), [0, 3, 4, 6, 8, 9, 12, 15, 16]);
    let held = |frame: &Frame| matches!(frame, Frame::Phase { importance: Some(_), .. });
    assert_eq!(frames.iter().filter(|frame| held(frame)).count(), 3);
    assert!(matches!(frames.last(), Some(Frame::Finished { lane: 1, step: 16 })));
    assert!(lab.finished(1).unwrap() && !lab.finished(0).unwrap());
    assert_eq!(block_on(lab.advance(1)).unwrap(), []);
}

#[test]
fn moments_measure_what_they_say() {
    let mut lab = lab(settings());
    let moments = moments(&run(&mut lab, 0, usize::MAX));
    let (start, ideal) = (&moments[0], lab.header().ideal);
    assert!(start.exact_covered > 0.8 && start.exact_other > 0.8, "the start knows the tasks: {start:?}");
    assert!((start.dpo_loss - 2f64.ln()).abs() < 1e-9, "the start is its own reference: {}", start.dpo_loss);
    assert_eq!((start.unit_drift.iter().sum::<f64>(), start.accuracy), (0.0, 0.0));
    for moment in &moments {
        assert!(moment.sft_loss > ideal.sft_loss && (0.0..=1.0).contains(&moment.reward), "{moment:?}");
        let point = Corner { sft_loss: moment.sft_loss, reward: moment.reward };
        assert_eq!(moment.hypervolume, hypervolume(&[point], ideal));
        assert!(moment.cosine.abs() <= 1.0 && moment.generations.len() == lab.header().prompts.len());
        assert!(moment.step == 0 || moment.unit_drift.iter().all(|drift| *drift > 0.0));
    }
    let (before, after) = (&moments[moments.len() / 2], &moments[moments.len() - 1]);
    assert!(after.reward > before.reward, "preferences are learned: {} {}", before.reward, after.reward);
}

#[test]
fn a_judge_teaches_lanes_their_own_answers() {
    let mut told = Vec::new();
    let settings = LabSettings { examples: 256, lanes: vec![LaneMethod::TwoStage, LaneMethod::Sft], ..by_ppo() };
    let progress = &mut |done, total| {
        told.push((done, total));
        Ok::<_, LabError>(())
    };
    let mut lab = block_on(Lab::prepared(settings, Compute::host(Device::flex()), progress)).unwrap();
    assert_eq!((told.len(), told.first(), told.last()), (32, Some(&(1, 32)), Some(&(32, 32))));
    assert!(lab.header().judge.unwrap().accuracy > 0.75, "{:?}", lab.header().judge);
    let [two_stage, sft] = [0, 1].map(|lane| run(&mut lab, lane, usize::MAX));
    let scores = |frames: &[Frame]| -> Vec<Option<f64>> {
        frames.iter().filter_map(|frame| if let Frame::Step { score, .. } = frame { Some(*score) } else { None }).collect()
    };
    let found = scores(&two_stage);
    assert_eq!((found.len(), found.iter().flatten().count()), (64, 32), "one for every step of PPO");
    assert!(found[63] > found[32], "{found:?}");
    assert!(scores(&sft).iter().all(Option::is_none));
    for frames in [&two_stage, &sft] {
        assert!(moments(frames).iter().all(|moment| moment.score.is_some_and(f64::is_finite)));
    }
    let [before, after] = [31, 63].map(|step| moments(&two_stage).into_iter().rfind(|moment| moment.step <= step + 1).unwrap());
    assert!(after.score > before.score && after.reward > before.reward, "{before:?} {after:?}");
    let [of_ppo, of_sft] = [0, 1].map(|lane| lab.run_file(lane).unwrap());
    assert!(of_ppo.contains("[ppo]") && !of_sft.contains("[ppo]") && lab.judge_file().unwrap().contains("reward-model"));
}

fn by_raft() -> LabSettings {
    LabSettings { preference: Preference::Raft, ..settings() }
}

#[test]
fn the_best_of_a_lanes_own_answers_are_learned() {
    let mut lab = lab(LabSettings { examples: 256, lanes: vec![LaneMethod::TwoStage], ..by_raft() });
    let frames = run(&mut lab, 0, usize::MAX);
    let scores: Vec<f64> =
        frames.iter().filter_map(|frame| if let Frame::Step { score, .. } = frame { *score } else { None }).collect();
    assert_eq!(scores.len(), 32, "one for every step of RAFT");
    let mean = |scores: &[f64]| scores.iter().sum::<f64>() / scores.len() as f64;
    assert!(mean(&scores[24..]) > mean(&scores[..8]) + 0.3, "{scores:?}");
    let file = lab.run_file(0).unwrap();
    assert!(file.contains("[raft]") && file.contains("answers = 4") && lab.judge_file().is_some(), "{file}");
}

#[test]
fn pairs_are_ranked_without_a_judge() {
    let mut lab = lab(LabSettings { preference: Preference::Rrhf, ..settings() });
    let moments = moments(&run(&mut lab, 0, usize::MAX));
    let rewards: Vec<f64> = moments.iter().map(|moment| moment.reward).collect();
    assert!(rewards[rewards.len() - 1] > rewards[rewards.len() / 2] + 0.05, "{rewards:?}");
    assert!(lab.run_file(0).unwrap().contains("[rrhf]") && lab.judge_file().is_none());
}

#[test]
fn without_ppo_there_is_no_judge() {
    let mut lab = lab(settings());
    assert!(lab.header().judge.is_none() && lab.judge_file().is_none());
    assert!(moments(&run(&mut lab, 0, 1))[0].score.is_none());
}

#[test]
fn a_snapshot_goes_on_bit_by_bit_from_anywhere() {
    check_snapshots(&settings());
    check_snapshots(&LabSettings { examples: 128, ..by_ppo() });
    check_snapshots(&LabSettings { examples: 128, ..by_raft() });
}

fn check_snapshots(settings: &LabSettings) {
    let expect = run(&mut lab(settings.clone()), 1, usize::MAX);
    for steps in [0, 2, 4, 11, 14] {
        let mut lab = lab(settings.clone());
        let mut frames = if steps == 0 { vec![] } else { run(&mut lab, 1, steps) };
        let bytes = block_on(lab.snapshot()).unwrap();
        let mut restored = block_on(Lab::restore(&bytes, Compute::host(Device::flex()))).unwrap();
        assert_eq!(restored.header(), lab.header());
        assert_eq!(restored.metrics(1).unwrap(), lab.metrics(1).unwrap());
        frames.extend(run(&mut restored, 1, usize::MAX));
        assert_eq!(frames, expect, "after {steps} steps");
    }
}

#[test]
fn other_bytes_are_no_snapshot() {
    let error = block_on(Lab::restore(b"nothing", Compute::host(Device::flex()))).err().unwrap().to_string();
    assert!(error.starts_with("this is no snapshot"), "{error}");
}

#[test]
fn with_one_subset_nothing_alternates_and_the_label_says_so() {
    let lab = lab(LabSettings { subsets: 1, ..settings() });
    let labels: Vec<_> = lab.header().lanes.into_iter().map(|lane| lane.label).collect();
    assert_eq!(labels, ["Two-stage", "Two-stage + anchor"]);
}

#[test]
fn every_method_can_be_a_lane_and_spends_the_same_tokens() {
    let tokens = |frames: &[Frame]| -> usize {
        frames.iter().map(|frame| if let Frame::Step { tokens, .. } = frame { *tokens } else { 0 }).sum()
    };
    let mut spent = Vec::new();
    for method in LaneMethod::ALL {
        let mut lab = lab(LabSettings { lanes: vec![method], measure_every: 100, ..settings() });
        let frames = run(&mut lab, 0, usize::MAX);
        spent.push(tokens(&frames));
        assert!(moments(&frames).last().unwrap().sft_loss.is_finite(), "{method:?}");
    }
    assert!(spent[..3].iter().all(|tokens| *tokens == spent[0]), "{spent:?}");
    assert!(spent.iter().all(|tokens| tokens.abs_diff(spent[0]) < spent[0] / 10), "{spent:?}");
}

#[test]
fn records_have_the_shape_that_the_page_reads() {
    let mut lab = lab(settings());
    let header = json!(lab.header());
    assert_eq!((&header["kind"], &header["version"]), (&json!("header"), &json!(1)));
    assert_eq!(header["lanes"][1]["method"], "hbat");
    assert_eq!(header["prompts"][0]["task"], "sort");
    let frames = json!(run(&mut lab, 1, 5));
    assert_eq!((&frames[0]["kind"], &frames[0]["step"]), (&json!("moment"), &json!(0)));
    let phase = frames.as_array().unwrap().iter().rfind(|frame| frame["kind"] == "phase").unwrap();
    assert!(phase["importance"]["rules"]["paper"]["effective_units"].as_f64().unwrap() > 1.0, "{phase}");
    assert_eq!(phase["importance"]["rule"], "relative");
    assert!(frames[0]["generations"][0]["tokens"][0]["mark"].is_string());
}

#[track_caller]
fn refused(settings: LabSettings, expect: &str) {
    let error = block_on(Lab::new(settings, Compute::host(Device::flex()))).err().expect("refused").to_string();
    assert_eq!(error, expect);
}

#[test]
fn impossible_settings_are_refused_by_name_value_and_rule() {
    refused(LabSettings { beta: -1.0, ..settings() }, "`beta` is -1, but it must be between 0.01 and 2");
    refused(LabSettings { lambda: f64::NAN, ..settings() }, "`lambda` is NaN, but it must be between 0 and 10");
    refused(LabSettings { subsets: 0, ..settings() }, "`subsets` is 0, but it must be between 1 and 10");
    refused(LabSettings { lanes: vec![], ..settings() }, "`lanes` is a list of 0, but it must be a list of 1 to 4 methods");
    let rule = "methods other than mix, whose preference steps are DPO's, unless `preference` is dpo";
    let expect = format!("`lanes` is a list with mix, but it must be {rule}");
    for preference in [Preference::Rrhf, Preference::Ppo, Preference::Raft] {
        refused(LabSettings { lanes: vec![LaneMethod::Hbat, LaneMethod::Mix], preference, ..settings() }, &expect);
    }
    let error = block_on(tune_beta(&by_raft(), &Compute::host(Device::flex()), &mut |_, _| {})).unwrap_err().to_string();
    assert_eq!(error, "`preference` is raft, but it must be dpo or ppo, which have a β to tune");
    let rule = "paper, reference, relative or proportional; random is the method hbat-random";
    refused(LabSettings { importance: Rule::Fisher, ..settings() }, &format!("`importance` is fisher, but it must be {rule}"));
    let error = serde_json::from_str::<LabSettings>(r#"{"betta": 1}"#).unwrap_err().to_string();
    assert!(error.contains("unknown field `betta`"), "{error}");
    let error = block_on(lab(settings()).advance(2)).unwrap_err().to_string();
    assert_eq!(error, "there is no lane 2: they count from 0, and there are 2");
}

#[test]
fn prompts_of_ones_own_are_answered_or_refused_in_words() {
    let lab = lab(LabSettings { model: Size::Small, ..settings() });
    let answer = block_on(lab.generate(0, "sort 4 1 ="));
    assert_eq!(answer.unwrap()[..2].iter().map(|token| token.mark).collect::<Vec<_>>(), [Some(Mark::Right); 2]);
    let refused = |prompt| block_on(lab.generate(0, prompt)).unwrap_err().to_string();
    assert!(refused("sort 12 =").starts_with("`12` is no word of the toy's language"));
    assert_eq!(refused(""), "the prompt has 0 words, but it must have 1 to 32, such as `sort 3 1 2 =`");
}
