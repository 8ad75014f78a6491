//! `rekindle chat`

use super::{
    NotUtf8, device,
    generate::{SamplingArgs, say_if_cut},
    read_line,
};
use crate::{
    output::{Output, harmless},
    printer::{self, Printer},
};
use clap::Args;
use rekindle::{ChatRole, Generator, Message, Prompt};
use std::{
    io::{self, IsTerminal},
    path::PathBuf,
};

/// Talk with a language model.
///
/// A line is a turn; an empty line begins a new conversation; Ctrl-D ends.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  rekindle chat smollm2\n  rekindle chat runs/smollm2-chats --system \"You answer in one sentence.\" --temperature 0.7"
)]
pub struct Chat {
    /// Run directory, model or adapter directory, GGUF file, or Hugging Face name
    model: PathBuf,
    /// What the model is told before everything else
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// auto, cpu, wgpu, wgpu:N, cuda or cuda:N
    #[arg(long)]
    device: Option<String>,
}

impl Chat {
    pub fn run(self) -> anyhow::Result<()> {
        let printer = Printer::new();
        let sampling = self.sampling.sampling(&printer)?;
        let generator = Generator::open(&self.model, device(self.device.as_ref())?, &printer)?;
        printer.clear();
        let terminal = io::stdin().is_terminal();
        if terminal {
            printer.say("a line is a turn; an empty line begins anew; Ctrl-D ends");
        }
        let system = || {
            let text = self.system.iter();
            text.map(|text| Message::new(ChatRole::System, text.as_str()))
                .collect()
        };
        let mut turns: Vec<Message> = system();
        let mut talk = generator.talk();
        let mut out = Output::new();
        let mut input = io::stdin().lock();
        loop {
            if terminal {
                out.piece("> ")?;
            }
            let line = match read_line(&mut input) {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(()),
                // A slip of the keyboard must not end a conversation.
                Err(error) if terminal && error.is::<NotUtf8>() => {
                    printer.say(
                        "that line is not UTF-8 text and was left out; set the terminal to UTF-8",
                    );
                    continue;
                }
                Err(error) => return Err(error),
            };
            if line.trim().is_empty() {
                turns = system();
                continue;
            }
            turns.push(Message::new(ChatRole::User, line));
            let prompt = Prompt::Turns(turns.clone(), None);
            let mut failed = None;
            let answer = talk.answer(&prompt, &sampling, &mut |piece| {
                failed = out.piece(harmless(piece)).err().or(failed.take());
            });
            let answer = match answer {
                Ok(answer) => answer,
                // A turn that is too long, say: the conversation goes on without it.
                Err(error) if terminal && failed.is_none() => {
                    printer::error(&error.into());
                    turns.pop();
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if let Some(error) = failed {
                return Err(error.into());
            }
            out.piece("\n")?;
            say_if_cut(&sampling, usize::from(!answer.finished), &printer);
            turns.push(Message::new(ChatRole::Assistant, answer.text));
        }
    }
}
