//! Columns of text for people.

/// Space between two columns.
const GAP: usize = 3;

/// Lays out `rows` under `header`, each column as wide as its widest cell.
pub fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .chain(std::iter::once(header[column].len()))
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: String = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<0$}", width + GAP))
            .collect();
        format!("{}\n", padded.trim_end())
    };
    let mut text = line(header.to_vec());
    for row in rows {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["a".to_owned(), "1".to_owned()],
            vec!["long".to_owned(), "2".to_owned()],
        ];
        assert_eq!(
            super::render(&["ID", "N"], &rows),
            "ID     N\na      1\nlong   2\n"
        );
    }
}
