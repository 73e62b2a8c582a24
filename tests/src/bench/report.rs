//! The results, as a table for people and as JSON for machines.

use std::fmt;

use serde::Serialize;

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub case: String,
    /// The median.
    pub value: f64,
    /// What the value counts: `ns`, `answers/s`, `ms`, `MiB`, `owners`.
    pub unit: &'static str,
    /// The same of what it is compared with.
    pub baseline: Option<f64>,
    /// What it must not exceed or fall below.
    pub limit: Option<Limit>,
}

/// A target.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// At most this much more than the baseline, in the row's unit.
    Above(f64),
    /// At most this many times the baseline.
    Times(f64),
    /// At least this many times the baseline.
    AtLeastTimes(f64),
}

impl Row {
    /// A measurement without anything to compare it with.
    pub fn new(case: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            case: case.into(),
            value,
            unit,
            baseline: None,
            limit: None,
        }
    }

    /// With what it is compared.
    pub fn against(self, baseline: f64) -> Self {
        Self {
            baseline: Some(baseline),
            ..self
        }
    }

    /// Whether the target is met; true where there is none.
    pub fn met(&self) -> bool {
        match (&self.limit, self.baseline) {
            (Some(Limit::Above(most)), Some(baseline)) => self.value <= baseline + most,
            (Some(Limit::Times(most)), Some(baseline)) => self.value <= baseline * most,
            (Some(Limit::AtLeastTimes(least)), Some(baseline)) => self.value >= baseline * least,
            (None, _) | (_, None) => true,
        }
    }
}

/// All rows of all groups.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// By group, in the order of measurement.
    pub groups: Vec<Section>,
}

/// The rows of one group.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// The group's name.
    pub name: &'static str,
    /// What its rows are about.
    pub title: &'static str,
    /// Its rows.
    pub rows: Vec<Row>,
}

impl Report {
    /// Whether all targets are met.
    pub fn met(&self) -> bool {
        self.groups
            .iter()
            .flat_map(|group| &group.rows)
            .all(Row::met)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for section in &self.groups {
            writeln!(out, "{}", section.title)?;
            writeln!(
                out,
                "  {:<46} {:>10} {:>10} {:>10}  target",
                "", "value", "baseline", "difference"
            )?;
            for row in &section.rows {
                write!(out, "  {:<46} {:>10.1}", row.case, row.value)?;
                match row.baseline {
                    Some(baseline) => {
                        write!(out, " {baseline:>10.1} {:>+10.1}", row.value - baseline)?;
                    }
                    None => write!(out, " {:>10} {:>10}", "", "")?,
                }
                match &row.limit {
                    Some(limit) => {
                        let verdict = if row.met() { "met" } else { "MISSED" };
                        writeln!(out, "  {limit} {}: {verdict}", row.unit)?;
                    }
                    None => writeln!(out)?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Above(most) => write!(out, "≤ +{most}"),
            Self::Times(most) => write!(out, "≤ {most} ×"),
            Self::AtLeastTimes(least) => write!(out, "≥ {least} ×"),
        }
    }
}
