use serde_json::json;

use super::*;

fn moment(method: &str, phase: Option<&str>, [nll, accuracy, margin]: [f64; 3]) -> Moment {
    let [sft_nll, accuracy, margin] = [nll, accuracy, margin].map(Some);
    Moment { method: method.into(), phase: phase.map(Into::into), sft_nll, accuracy, margin, extra: Vec::new() }
}

fn moments(method: &str) -> Vec<Moment> {
    vec![
        moment(method, None, [3.2, 0.5, 0.0]),
        moment(method, Some("sft-1"), [0.4, 0.52, 0.1]),
        moment(method, Some("dpo-1"), [0.6, 0.97, 2.5]),
    ]
}

fn curve(method: &str, phases: &[&str], steps: usize) -> Curve {
    let step = |index: usize| {
        let phase = phases[index * phases.len() / steps];
        let objective = phase.split('-').next().unwrap();
        let loss = Some(0.7 / (1.0 + index as f64));
        StepLoss { phase: phase.into(), objective: objective.into(), global_step: index + 1, loss, score: None }
    };
    Curve { method: method.into(), steps: (0..steps).map(step).collect() }
}

fn bytes(moments: &[Moment], curves: &[Curve]) -> Vec<u8> {
    plot(&Picture { title: "A title", moments, curves }).unwrap()
}

/// Width, height and pixels of a PNG.
fn decoded(bytes: &[u8]) -> (u32, u32, Vec<u8>) {
    let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    (info.width, info.height, pixels)
}

/// How many pixels are exactly of this colour.
fn count(pixels: &[u8], colour: [u8; 3]) -> usize {
    pixels.chunks_exact(3).filter(|pixel| *pixel == colour).count()
}

#[test]
fn a_picture_is_a_png_that_depends_on_its_data_alone() {
    let curves = [curve("hbat", &["sft-1", "dpo-1"], 40)];
    let one = bytes(&moments("hbat"), &curves);
    assert_eq!(one, bytes(&moments("hbat"), &curves));
    let (width, height, pixels) = decoded(&one);
    assert_eq!((width, height), (2400, 1600));
    assert_eq!(pixels[..3], [255, 255, 255]);
    let mut other = moments("hbat");
    other[2].margin = Some(2.0);
    assert_ne!(one, bytes(&other, &curves));
    assert_ne!(one, bytes(&moments("hbat"), &[curve("hbat", &["sft-1", "dpo-1"], 41)]));
    assert_ne!(one, bytes(&moments("hbat"), &[]));
}

#[test]
fn every_method_has_its_colour() {
    let both = [moments("two-stage"), moments("hbat")].concat();
    let mut apart = both.clone();
    apart[5].sft_nll = Some(0.9);
    let (blue, orange) = ([0, 114, 178], [213, 94, 0]);
    let (_, _, alone) = decoded(&bytes(&moments("two-stage"), &[]));
    let (_, _, two) = decoded(&bytes(&apart, &[]));
    assert!(count(&alone, blue) > 2000 && count(&alone, orange) == 0);
    assert!(count(&two, blue) > 1000 && count(&two, orange) > 1000);
}

#[test]
fn odd_data_still_make_a_picture() {
    let many: Vec<Moment> = (0..30).flat_map(|n| moments(&format!("method {n}"))).collect();
    let long = "long ".repeat(100);
    let odd = [f64::NAN, f64::INFINITY, f64::MAX, f64::MIN, f64::MIN_POSITIVE, 0.0, -1.0, 1e16, 1e16 + 2.0];
    let odd_moments: Vec<Moment> =
        odd.iter().flat_map(|x| odd.iter().map(|y| moment("odd", Some("sft-1"), [*x, 0.5, *y]))).collect();
    let mut odd_curve = curve("odd", &["sft-1", "dpo-1", "mix", "another-1"], odd.len());
    odd_curve.steps.iter_mut().zip(odd).for_each(|(step, loss)| step.loss = Some(loss));
    let cases: [(&str, Vec<Moment>, Vec<Curve>); 8] = [
        ("one moment", moments("a")[..1].to_vec(), vec![]),
        ("nothing changes", vec![moment("a", None, [1.0; 3]), moment("a", Some("sft-1"), [1.0; 3])], vec![]),
        ("thirty methods", many, (0..30).map(|n| curve(&format!("method {n}"), &["sft-1", "dpo-1"], 9)).collect()),
        ("long names", moments(&long), vec![curve(&long, &[&long], 3)]),
        ("no names", moments(""), vec![curve("", &[""], 3)]),
        ("odd values", odd_moments, vec![odd_curve]),
        ("one step", vec![], vec![curve("a", &["mix"], 1)]),
        ("many phases", vec![], vec![curve("a", &["sft-1", "dpo-1"].repeat(500), 1000)]),
    ];
    for (name, moments, curves) in cases {
        let (_, _, pixels) = decoded(&bytes(&moments, &curves));
        assert!(count(&pixels, [255, 255, 255]) > 1_000_000, "{name}: mostly paper");
        assert!(count(&pixels, [255, 255, 255]) < 3_830_000, "{name}: something is drawn");
    }
}

#[test]
fn without_margins_accuracies_are_shown() {
    let without = |margin: Option<f64>| moments("a").into_iter().map(|m| Moment { margin, ..m }).collect::<Vec<_>>();
    assert_ne!(bytes(&without(None), &[]), bytes(&without(Some(1.0)), &[]));
    assert_eq!(bytes(&without(None), &[]), bytes(&without(Some(f64::NAN)), &[]));
}

#[test]
fn nothing_to_show_is_an_error() {
    let unevaluated = [Moment { margin: None, accuracy: None, ..moments("sft")[0].clone() }];
    let no_numbers =
        [Curve { steps: vec![StepLoss { loss: None, ..curve("a", &["mix"], 1).steps[0].clone() }], method: "a".into() }];
    let error = plot(&Picture { title: "", moments: &unevaluated, curves: &no_numbers }).unwrap_err();
    assert_eq!(error.to_string(), "nothing to plot: no moment with both objectives evaluated, and no training step");
}

#[test]
fn a_file_is_written_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let moments = moments("a");
    let picture = Picture { title: "A title", moments: &moments, curves: &[] };
    let path = folder.path().join("plot.png");
    save_plot(&picture, &path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), plot(&picture).unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    // A folder lies where the file is to go.
    let taken = folder.path().join("taken");
    std::fs::create_dir_all(taken.join("full")).unwrap();
    let error = save_plot(&picture, &taken).unwrap_err().to_string();
    assert!(error.contains("taken: cannot write the plot") && error.contains("permissions"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing half-written is left");
}

#[test]
fn records_of_steps_read_as_losses() {
    let record = json!({ "kind": "step", "phase": "dpo-1", "objective": "dpo", "global_step": 7, "loss": 0.5, "tokens": 3 });
    let loss: StepLoss = serde_json::from_value(record).unwrap();
    assert_eq!(loss, StepLoss { phase: "dpo-1".into(), objective: "dpo".into(), global_step: 7, loss: Some(0.5), score: None });
    let no_number = json!({ "phase": "a", "objective": "b", "global_step": 1, "loss": null });
    assert_eq!(serde_json::from_value::<StepLoss>(no_number).unwrap().loss, None);
}
