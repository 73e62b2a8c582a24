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
    /// The unit: `ns`, `answers/s`, `ms`, `MiB`, `owners`.
    pub unit: &'static str,
    /// The value of the baseline.
    pub baseline: Option<f64>,
    /// What it must not exceed or fall below.
    pub limit: Option<Limit>,
}

/// The limit of a value.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// At most this much more than the baseline, in the row's unit: a target, which a slow machine
    /// may miss.
    Above(f64),
    /// At most this, on any machine.
    AtMost(f64),
    /// At most this many times the baseline.
    Times(f64),
    /// At least this many times the baseline.
    AtLeastTimes(f64),
}

impl Row {
    /// A measurement without a baseline.
    pub fn new(case: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            case: case.into(),
            value,
            unit,
            baseline: None,
            limit: None,
        }
    }

    /// Sets the baseline.
    pub fn against(self, baseline: f64) -> Self {
        Self {
            baseline: Some(baseline),
            ..self
        }
    }

    /// Sets the limit.
    pub fn within(self, limit: Limit) -> Self {
        Self {
            limit: Some(limit),
            ..self
        }
    }

    /// Whether the limit is kept; true if there is none.
    pub fn met(&self) -> bool {
        match (&self.limit, self.baseline) {
            (Some(Limit::AtMost(most)), _) => self.value <= *most,
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
    /// What its rows measure.
    pub title: &'static str,
    /// Its rows.
    pub rows: Vec<Row>,
}

impl Report {
    /// The rows that break a machine-independent limit.
    pub fn broken(&self) -> impl Iterator<Item = &Row> {
        let rows = self.groups.iter().flat_map(|group| &group.rows);
        rows.filter(|row| !row.met() && !matches!(row.limit, Some(Limit::Above(_))))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for section in &self.groups {
            writeln!(out, "{}", section.title)?;
            let cases = section.rows.iter().map(|row| row.case.chars().count());
            let width = cases.max().unwrap_or_default();
            writeln!(
                out,
                "  {:<width$} {:>10} {:>10} {:>10}  limit",
                "", "value", "baseline", "difference"
            )?;
            for row in &section.rows {
                write!(out, "  {:<width$} {:>10.1}", row.case, row.value)?;
                match row.baseline {
                    Some(baseline) => {
                        write!(out, " {baseline:>10.1} {:>+10.1}", row.value - baseline)?;
                    }
                    None => write!(out, " {:>10} {:>10}", "", "")?,
                }
                match &row.limit {
                    Some(limit) => {
                        let verdict = if row.met() { "kept" } else { "BROKEN" };
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
            Self::AtMost(most) => write!(out, "≤ {most}"),
            Self::Times(most) => write!(out, "≤ {most} ×"),
            Self::AtLeastTimes(least) => write!(out, "≥ {least} ×"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_break_a_limit_are_named_unless_only_a_slow_machine_does() {
        let row = |case: &str, value, limit| {
            let row = Row::new(case, value, "ms").against(100.0);
            row.within(limit)
        };
        let rows = vec![
            row("kept", 500.0, Limit::AtMost(500.0)),
            row("too late", 500.1, Limit::AtMost(500.0)),
            row("too many", 121.0, Limit::Times(1.2)),
            row("too few", 89.0, Limit::AtLeastTimes(0.9)),
            row("a slow machine", 200.0, Limit::Above(15.0)),
            Row::new("without any", 1e9, "ms"),
        ];
        let groups = vec![Section {
            name: "group",
            title: "a group",
            rows,
        }];
        let report = Report { groups };
        let broken: Vec<&str> = report.broken().map(|row| &*row.case).collect();
        assert_eq!(broken, ["too late", "too many", "too few"]);
        let table = report.to_string();
        assert!(table.contains("≤ 500 ms: BROKEN"), "{table}");
        assert!(table.contains("≤ 500 ms: kept"), "{table}");
    }
}
