//! A run file for somebody's data: looks at the file, guesses, and writes down every guess with its reason.

use crate::{
    Error, RunConfig,
    config::{self, commented},
    data::read_options,
};
use rekindle_data::sniff;
use std::path::Path;

/// A commented run file for a file of examples, from what `config` says already (its columns, header and quoting guide
/// the reading). Keys that were guessed or set are active, all others stand as comments.
///
/// # Errors
/// When the file cannot be read, or it is unclear which columns are the text and the label.
pub fn run_file_for(path: &Path, config: &RunConfig) -> Result<String, Error> {
    const FEW: usize = 500;
    let sniffed = sniff(
        path,
        &read_options(config, &rekindle_hub::Columns::default(), None),
    )?;
    let columns = sniffed.columns?;
    let mut config = config.clone();
    config.data.train = Some(path.to_owned());
    let column = |c: &rekindle_data::ResolvedColumn| match columns.header {
        true => config::Column::Name(c.name.clone()),
        false => config::Column::Index(c.index),
    };
    config.data.text = Some(column(&columns.text));
    config.data.text_pair = columns.text_pair.as_ref().map(column);
    config.data.label = columns.label.as_ref().map(column);
    if matches!(
        sniffed.format,
        rekindle_data::Format::Csv | rekindle_data::Format::Tsv
    ) {
        config.data.header = Some(columns.header);
    }
    let small = sniffed.rows < FEW && config.train.epochs == RunConfig::default().train.epochs;
    if small {
        config.train.epochs = 10.0;
    }

    let mut counts: Vec<(&String, &usize)> = sniffed.labels.iter().collect();
    counts.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let shown: Vec<String> = counts
        .iter()
        .take(8)
        .map(|(label, n)| format!("{label} ({n})"))
        .collect();
    let more = if counts.len() > shown.len() {
        format!(" and {} more", counts.len() - shown.len())
    } else {
        String::new()
    };
    let header = format!(
        "Written for {}: {} rows, columns {}.\n{} labels: {}{more}.\nRun it: rekindle finetune --config THIS_FILE",
        path.display(),
        sniffed.rows,
        sniffed.names.join(", "),
        counts.len(),
        shown.join(", "),
    );
    let bad = (sniffed.bad_rows > 0).then(|| {
        format!(
            "{} rows cannot be used as they are; \"skip\" leaves them out and says which",
            sniffed.bad_rows
        )
    });
    let label = columns.label.as_ref().map_or_else(
        || "no column looks like a label: name it here".to_owned(),
        |c| c.reason.clone(),
    );
    let small = small.then(|| format!("with only {} rows, more passes", sniffed.rows));
    let mut notes: Vec<(&str, &str)> = vec![
        ("", &header),
        ("data.text", &columns.text.reason),
        ("data.label", &label),
    ];
    if let Some(bad) = &bad {
        notes.push(("data.on_bad_example", bad));
    }
    if let Some(small) = &small {
        notes.push(("train.epochs", small));
    }
    Ok(commented(&config, &notes))
}
