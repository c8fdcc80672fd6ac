//! Figures of several rounds, one JSON object for each row and figure.

use crate::document::Document;

/// The rows of one case, in the order in which they came first.
#[derive(Debug)]
pub(crate) struct Report {
    case: &'static str,
    rows: Vec<Row>,
}

/// The figures of one row, each with one value a round.
#[derive(Debug)]
pub(crate) struct Row {
    /// The names of the row, as the inside of a JSON object.
    name: String,
    figures: Vec<(&'static str, Vec<f64>)>,
}

impl Report {
    pub(crate) fn new(case: &'static str) -> Self {
        Self { case, rows: Vec::new() }
    }

    /// The row of this crate, and of the further names in it.
    pub(crate) fn row<D: Document>(&mut self, names: &str) -> &mut Row {
        let name = format!(r#""case":"{}","crate":"{}"{names}"#, self.case, D::NAME);
        let known = self.rows.iter().position(|row| row.name == name);
        let index = known.unwrap_or_else(|| {
            self.rows.push(Row { name, figures: Vec::new() });
            self.rows.len() - 1
        });
        &mut self.rows[index]
    }

    pub(crate) fn print(&self) {
        for Row { name, figures } in &self.rows {
            for (figure, values) in figures {
                let mut values = values.clone();
                values.sort_by(f64::total_cmp);
                let (least, median, most) = (values[0], values[values.len() / 2], values[values.len() - 1]);
                println!(r#"{{{name},"figure":"{figure}","median":{median:.1},"least":{least:.1},"most":{most:.1}}}"#);
            }
        }
    }
}

impl Row {
    pub(crate) fn add(&mut self, figure: &'static str, value: f64) -> &mut Self {
        match self.figures.iter_mut().find(|(name, _)| *name == figure) {
            Some((_, values)) => values.push(value),
            None => self.figures.push((figure, vec![value])),
        }
        self
    }
}
