//! Where the lab's lanes end over many seeds: the ghosts of the page, and a table.

use std::fmt::{self, Display, Formatter};

use hbat::compute::Compute;
use hbat::lab::{LabSettings, LaneMethod, Moment};
use serde_json::{Value, json};

use super::record::ends;
use crate::report::{Bar, quantile};
use crate::signal::Interrupt;

/// Where a lane stands.
pub(super) struct Standing {
    pub(super) method: LaneMethod,
    pub(super) label: String,
    pub(super) moment: Moment,
}

/// The ends of all lanes over some seeds.
pub(super) struct Ends {
    settings: LabSettings,
    /// By seed, then by lane.
    runs: Vec<Vec<Standing>>,
}

impl Ends {
    /// Trains with so many seeds from that of the settings on, and measures at the ends of phases alone.
    pub(super) async fn of(
        settings: &LabSettings,
        seeds: usize,
        compute: &Compute,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Self> {
        let mut bar = Bar::items("seeds", seeds as u64);
        let mut runs = Vec::with_capacity(seeds);
        for seed in settings.seed..settings.seed + seeds as u64 {
            let settings = LabSettings { seed, measure_every: 1000, ..settings.clone() };
            runs.push(ends(settings, compute, interrupt).await?);
            bar.advance(1);
        }
        Ok(Self { settings: settings.clone(), runs })
    }

    /// The ghosts as the page reads them.
    pub(super) fn ghosts(&self) -> Value {
        let lane = |index: usize| {
            let digits = |value: f64| (value * 1e5).round() / 1e5;
            let points = self.runs.iter().map(|run| &run[index].moment);
            let points: Vec<_> = points.map(|moment| [digits(moment.sft_loss), digits(moment.reward)]).collect();
            json!({ "method": self.settings.lanes[index], "points": points })
        };
        json!({ "settings": self.settings, "lanes": (0..self.settings.lanes.len()).map(lane).collect::<Vec<_>>() })
    }

    /// A lane's numbers of all seeds.
    fn numbers(&self, lane: usize, of: impl Fn(&Moment) -> f64) -> Vec<f64> {
        self.runs.iter().map(|run| of(&run[lane].moment)).collect()
    }

    /// How often the first lane ends with a larger, an equal and a smaller hypervolume than another: within 0.005 is equal.
    fn against(&self, lane: usize, other: usize) -> [usize; 3] {
        let volumes = |lane| self.numbers(lane, |moment| moment.hypervolume);
        let mut counts = [0; 3];
        for (a, b) in volumes(lane).into_iter().zip(volumes(other)) {
            counts[if a > b + 0.005 {
                0
            } else if a < b - 0.005 {
                2
            } else {
                1
            }] += 1;
        }
        counts
    }
}

impl Display for Ends {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let seeds = if self.runs.len() == 1 { "seed" } else { "seeds" };
        writeln!(f, "Median of {} {seeds} (first and third quartile), at the end:\n", self.runs.len())?;
        writeln!(f, "| | SFT loss | reward | exact, covered | exact, other | casual | hypervolume |")?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        let Some(first) = self.runs.first() else { return Ok(()) };
        for (lane, standing) in first.iter().enumerate() {
            let of = |of: fn(&Moment) -> f64| quartiles(self.numbers(lane, of));
            let columns = [of(|m| m.sft_loss), of(|m| m.reward), of(|m| m.exact_covered), of(|m| m.exact_other)];
            let columns = columns.into_iter().chain([of(|m| m.casual), of(|m| m.hypervolume)]);
            writeln!(f, "| {} | {} |", standing.label, columns.collect::<Vec<_>>().join(" | "))?;
        }
        writeln!(f)?;
        for (lane, standing) in first.iter().enumerate().filter(|(_, standing)| standing.method == LaneMethod::Hbat) {
            for (other, against) in first.iter().enumerate().filter(|(other, _)| *other != lane) {
                let [wins, ties, losses] = self.against(lane, other);
                let (label, other) = (&standing.label, &against.label);
                writeln!(f, "{label} against {other}, by hypervolume: {wins} won, {ties} tied, {losses} lost")?;
            }
        }
        Ok(())
    }
}

fn quartiles(values: Vec<f64>) -> String {
    let at = |part: f64| quantile(values.iter().copied(), part).expect("there is a first seed");
    format!("{:.3} ({:.3}–{:.3})", at(0.5), at(0.25), at(0.75))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_of_the_sorted_values() {
        assert_eq!(quartiles(vec![5.0, 1.0, 4.0, 2.0, 3.0]), "3.000 (2.000–4.000)");
        assert_eq!(quartiles(vec![0.5]), "0.500 (0.500–0.500)");
        assert_eq!(quartiles(vec![4.0, 1.0, 3.0, 2.0]), "2.500 (1.750–3.250)");
    }
}
