//! `rekindle generate`

use super::{device, read_lines};
use crate::{
    output::{Output, harmless},
    printer::Printer,
};
use anyhow::bail;
use clap::Args;
use rekindle::{Constraint, Conversation, Generator, Prompt, Sampling};
use serde_json::json;
use std::{
    io::{self, IsTerminal},
    path::PathBuf,
    time::Instant,
};

/// Answer prompts with a language model.
///
/// Prints a JSON object a line: the prompt, the answer, and the right answer where the file gives one.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  rekindle generate smollm2 \"What is the capital of France?\"\n  rekindle generate runs/smollm2-chats --file test.jsonl > answers.jsonl\n  rekindle generate smollm2 \"Two rolls, please\" --json-schema order.json"
)]
pub struct Generate {
    /// Run directory, model or adapter directory, GGUF file, or Hugging Face name
    model: PathBuf,
    /// Questions; without any and without --file, lines of standard input
    prompts: Vec<String>,
    /// File of conversations, prompts or texts: JSONL, CSV, TSV or Parquet
    #[arg(long, value_name = "FILE", conflicts_with = "prompts")]
    file: Option<PathBuf>,
    /// Continue the prompts as plain texts, without the chat template
    #[arg(long, conflicts_with = "file")]
    raw: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Answers made at once
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch_size: usize,
    /// auto, cpu, wgpu, wgpu:N, cuda or cuda:N
    #[arg(long)]
    device: Option<String>,
    /// Only the answer
    #[arg(long)]
    brief: bool,
}

/// How the next token is chosen.
#[derive(Args)]
pub struct SamplingArgs {
    /// At most so many new tokens
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_new_tokens: usize,
    /// 0 takes the most probable token; higher is more varied
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f64,
    /// Choose among so many of the most probable tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Choose among the most probable tokens that together reach this probability
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f64,
    /// Choose among tokens with at least this share of the most probable one's probability
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    min_p: f64,
    /// Makes tokens that were there less likely; 1 for no penalty
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    repetition_penalty: f64,
    /// Seed of the choices
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// Text that ends an answer; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Every answer is a JSON object
    #[arg(long, group = "form", conflicts_with = "stop")]
    json: bool,
    /// Every answer is JSON that this JSON Schema describes
    #[arg(long, value_name = "FILE", group = "form", conflicts_with = "stop")]
    json_schema: Option<PathBuf>,
    /// Every answer matches this regular expression as a whole
    #[arg(long, group = "form", conflicts_with = "stop")]
    regex: Option<String>,
    /// Every answer is of this grammar, in llguidance's variant of Lark
    #[arg(long, value_name = "FILE", group = "form", conflicts_with = "stop")]
    grammar: Option<PathBuf>,
}

impl SamplingArgs {
    /// As the library takes it. What of a schema is not followed is printed.
    pub fn sampling(&self, printer: &Printer) -> anyhow::Result<Sampling> {
        let at_least =
            |name: &str, value: f64, least: f64| match value >= least && value.is_finite() {
                true => Ok(()),
                false => bail!("--{name} is {value}, expected a number of at least {least}"),
            };
        let share = |name: &str, value: f64| match (0.0..=1.0).contains(&value) {
            true => Ok(()),
            false => bail!("--{name} is {value}, expected a probability, 0 to 1"),
        };
        at_least("temperature", self.temperature, 0.0)?;
        share("top-p", self.top_p)?;
        share("min-p", self.min_p)?;
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            bail!(
                "--repetition-penalty is {}, expected a number above 0",
                self.repetition_penalty
            );
        }
        Ok(Sampling {
            max_new_tokens: self.max_new_tokens,
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
            stop: self.stop.clone(),
            constraint: self.constraint(printer)?,
        })
    }

    fn constraint(&self, printer: &Printer) -> Result<Option<Constraint>, rekindle::Error> {
        let constraint = match (&self.json_schema, &self.regex, &self.grammar) {
            (Some(path), _, _) => Constraint::json_schema_file(path)?,
            (_, Some(pattern), _) => Constraint::regex(pattern)?,
            (_, _, Some(path)) => Constraint::grammar_file(path)?,
            _ if self.json => Constraint::json()?,
            _ => return Ok(None),
        };
        for warning in constraint.warnings() {
            printer.say(&format!("not followed: {warning}"));
        }
        Ok(Some(constraint))
    }
}

/// Says how many answers were cut before they were what they have to be.
pub fn say_if_cut(sampling: &Sampling, cut: usize, printer: &Printer) {
    if cut > 0 && sampling.constraint.is_some() {
        let answers = match cut {
            1 => "1 answer was".to_owned(),
            _ => format!("{cut} answers were"),
        };
        printer.say(&format!(
            "{answers} cut before the end, and not of the form asked for yet: --max-new-tokens is {}",
            sampling.max_new_tokens
        ));
    }
}

/// A prompt with what stood beside it.
struct Asked {
    /// Where it stands, where that is a file.
    place: Option<String>,
    prompt: Prompt,
    shown: serde_json::Value,
    reference: Option<String>,
}

impl Generate {
    pub fn run(self) -> anyhow::Result<()> {
        let printer = Printer::new();
        let sampling = self.sampling.sampling(&printer)?;
        let generator = Generator::open(&self.model, device(self.device.as_ref())?, &printer)?;
        printer.clear();
        let asked: Vec<Asked> = match &self.file {
            Some(path) => rekindle::read_prompts(path)?.iter().map(of_row).collect(),
            None if !self.prompts.is_empty() => {
                self.prompts.iter().map(|text| self.of_text(text)).collect()
            }
            None => {
                let stdin = io::stdin();
                if stdin.is_terminal() {
                    printer.say("reading questions from the terminal, one a line; end with Ctrl-D");
                }
                let lines = read_lines(&mut stdin.lock())?;
                let full = lines.iter().filter(|line| !line.trim().is_empty());
                full.map(|text| self.of_text(text)).collect()
            }
        };
        // Before the first answer: none is lost to a prompt that cannot be answered.
        for (i, asked) in asked.iter().enumerate() {
            let place = asked.place.clone();
            let name = place.unwrap_or_else(|| format!("prompt {}", i + 1));
            generator.check(&asked.prompt, &name)?;
        }
        let mut out = Output::new();
        let (clock, mut tokens, mut cut) = (Instant::now(), 0, 0);
        for chunk in asked.chunks(self.batch_size.max(1)) {
            let prompts: Vec<Prompt> = chunk.iter().map(|asked| asked.prompt.clone()).collect();
            let answers = generator.generate(&prompts, &sampling, &mut |_, _| {})?;
            for (asked, answer) in chunk.iter().zip(&answers) {
                tokens += answer.tokens.len();
                cut += usize::from(!answer.finished);
                match self.brief {
                    true => out.line(harmless(&answer.text))?,
                    false => {
                        let mut line = json!({"prompt": asked.shown, "answer": answer.text});
                        if let Some(reference) = &asked.reference {
                            line["reference"] = reference.as_str().into();
                        }
                        if !answer.finished {
                            line["finished"] = false.into();
                        }
                        out.line(line)?;
                    }
                }
            }
            out.flush()?;
        }
        let seconds = clock.elapsed().as_secs_f64();
        let answers = match asked.len() {
            1 => "1 answer".to_owned(),
            n => format!("{n} answers"),
        };
        printer.say(&format!(
            "{answers}, {tokens} tokens in {seconds:.1} s ({:.1} a second)",
            tokens as f64 / seconds.max(1e-9)
        ));
        say_if_cut(&sampling, cut, &printer);
        Ok(())
    }

    fn of_text(&self, text: &str) -> Asked {
        Asked {
            place: None,
            prompt: match self.raw {
                true => Prompt::Text(text.to_owned()),
                false => Prompt::question(text),
            },
            shown: text.into(),
            reference: None,
        }
    }
}

fn of_row(row: &Conversation) -> Asked {
    let (prompt, reference) = Prompt::of(row);
    let shown = match &prompt {
        Prompt::Text(text) => text.as_str().into(),
        Prompt::Turns(turns, _) => match turns.as_slice() {
            [only] => only.content.as_deref().unwrap_or_default().into(),
            several => several
                .iter()
                .map(|turn| json!({"role": turn.role.name(), "content": turn.content}))
                .collect(),
        },
    };
    Asked {
        place: Some(row.place.to_string()),
        prompt,
        shown,
        reference,
    }
}
