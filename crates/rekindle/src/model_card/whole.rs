//! Cards of what is made of a tuned model: an adapter merged into its base, and a GGUF file. What the model's own card says of figures,
//! data and training is taken over.

use super::{BaseName, FILE, Loading, code, quoted};
use crate::{Error, task::Task};
use rekindle_base::write_atomically;
use std::{fmt::Write, fs, path::Path};

/// What a card of ours holds, whatever else it says.
const OURS: &str = concat!("[Rekindle](", env!("CARGO_PKG_REPOSITORY"), ")");
/// The first of the sections that are taken over, and the first that is not.
const SECTIONS: [&str; 2] = ["\n## Figures\n", "\n## How to load it\n"];

/// What was made.
pub(crate) enum Made<'a> {
    /// An adapter merged into its base, as a model directory.
    Merged(Loading<'a>),
    /// A GGUF file, by its name and its type, with a Modelfile of this name beside it.
    Gguf {
        file: &'a str,
        dtype: &'a str,
        modelfile: &'a str,
    },
}

/// Writes the card of what was made of a model whose own card may lie in `from`. One that is not ours stays as it is; whether it
/// was written.
pub(crate) fn write(
    folder: &Path,
    name: &str,
    task: Task,
    base: Option<&BaseName>,
    made: &Made<'_>,
    from: &Path,
) -> Result<bool, Error> {
    let path = folder.join(FILE);
    if let Ok(there) = fs::read_to_string(&path)
        && !there.contains(OURS)
    {
        return Ok(false);
    }
    let own = fs::read_to_string(from.join(FILE)).unwrap_or_default();
    let text = text(name, task, base, made, taken_over(&own));
    write_atomically(&path, text.as_bytes()).map_err(Error::io(&path))?;
    Ok(true)
}

/// Figures, data and training of a card of ours.
fn taken_over(card: &str) -> &str {
    let [first, end] = SECTIONS.map(|title| card.find(title));
    match (first, end) {
        (Some(first), Some(end)) if card.contains(OURS) && first < end => &card[first + 1..end + 1],
        _ => "",
    }
}

fn text(name: &str, task: Task, base: Option<&BaseName>, made: &Made<'_>, about: &str) -> String {
    let (library, pipeline, tag, relation) = match made {
        Made::Merged(loading) => (loading.library(), loading.pipeline(), "merged", "finetune"),
        Made::Gguf { .. } => ("gguf", "text-generation", "gguf", "quantized"),
    };
    let mut header = format!("library_name: {library}\npipeline_tag: {pipeline}\n");
    if let Some(hub) = base.and_then(|base| base.hub.as_ref()) {
        // Writing to a string does not fail.
        let _ = write!(
            header,
            "base_model: {}\nbase_model_relation: {relation}\n",
            quoted(hub)
        );
    }
    header += &format!("tags:\n- rekindle\n- {tag}\n");
    if task.name() != pipeline {
        header += &format!("- {}\n", task.name());
    }
    let from = match base {
        Some(base) => format!(", tuned from {}", base.words),
        None => String::new(),
    };
    let what = match made {
        Made::Merged(_) => "A whole model: an adapter, merged into its base",
        Made::Gguf { dtype, .. } => &format!("A GGUF file of type {dtype}"),
    };
    let loading = match made {
        Made::Merged(loading) => loading.section(""),
        Made::Gguf {
            file, modelfile, ..
        } => format!(
            "## How to load it\n\nWith llama.cpp, Ollama and Rekindle:\n\n```sh\nllama-cli -m {file}\nollama create NAME -f {modelfile}\nrekindle chat {file}\n```\n",
            file = rekindle_base::shell_word(file),
            modelfile = rekindle_base::shell_word(modelfile),
        ),
    };
    format!(
        "---\n{header}---\n\n# {}\n\n{what}{from}, for the task {}, by {OURS} {}.\n\n{about}{loading}",
        super::plain(name),
        code(task.name()),
        env!("CARGO_PKG_VERSION"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_card_of_ours_says_of_its_run_is_taken_over() {
        let card = |by: &str| {
            format!(
                "---\n---\n# a\n\nby {by} 1.\n\n## Figures\n\nx\n\n## Data\n\ny\n\n## How to load it\n\nz\n"
            )
        };
        assert_eq!(
            taken_over(&card(OURS)),
            "## Figures\n\nx\n\n## Data\n\ny\n\n"
        );
        assert_eq!(taken_over(&card("hand")), "");
        assert_eq!(taken_over(""), "");
    }
}
