//! Measured values of several contenders, taken in turns, and their table.

/// Values of the contenders, in the order of their first appearance.
#[derive(Clone, Debug)]
pub struct Samples {
    unit: &'static str,
    rows: Vec<(String, Vec<f64>)>,
}

impl Samples {
    /// No values yet; they will be of this unit.
    pub fn new(unit: &'static str) -> Self {
        Samples {
            unit,
            rows: Vec::new(),
        }
    }

    /// Adds a value of a contender.
    pub fn add(&mut self, name: &str, value: f64) {
        match self.rows.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) => values.push(value),
            None => self.rows.push((name.to_owned(), vec![value])),
        }
    }

    /// Median, least value, and their ratios to the first contender's, a row for each.
    pub fn table(&self, title: &str) -> String {
        let unit = self.unit;
        let mut table = format!(
            "{title:<34} {:>12} {:>12} {:>8} {:>8} {:>4}\n",
            format!("median {unit}"),
            format!("min {unit}"),
            "ratio",
            "of min",
            "n"
        );
        let first = self.rows.first().map(|(_, values)| middle(values));
        for (name, values) in &self.rows {
            let (median, least) = middle(values);
            let (base_median, base_least) = first.unwrap_or((median, least));
            table += &format!(
                "{name:<34} {median:>12.4} {least:>12.4} {:>8.3} {:>8.3} {:>4}\n",
                median / base_median,
                least / base_least,
                values.len()
            );
        }
        table
    }
}

/// Median and least of some values.
fn middle(values: &[f64]) -> (f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    let half = sorted.len() / 2;
    let median = match sorted.len() % 2 {
        0 => (at(half.saturating_sub(1)) + at(half)) / 2.0,
        _ => at(half),
    };
    (median, at(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_to_the_first() {
        let mut samples = Samples::new("s");
        for (name, value) in [("a", 2.0), ("b", 8.0), ("a", 4.0), ("b", 4.0), ("a", 3.0)] {
            samples.add(name, value);
        }
        assert_eq!(middle(&[2.0, 4.0, 3.0]), (3.0, 2.0));
        assert_eq!(middle(&[8.0, 4.0]), (6.0, 4.0));
        let table = samples.table("t");
        let row: Vec<&str> = table.lines().nth(2).unwrap().split_whitespace().collect();
        assert_eq!(row, ["b", "6.0000", "4.0000", "2.000", "2.000", "2"]);
    }
}
