//! `rekindle config`

use crate::output;
use clap::Args;
use rekindle::config::{Description, describe, descriptions, settings_page};
use std::fmt::Write;

/// List all settings of a run, or explain one.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  rekindle config\n  rekindle config train\n  rekindle config train.learning_rate"
)]
pub struct Config {
    /// A setting, such as train.learning_rate, or a section, such as train
    name: Option<String>,
    /// Print all settings as a page of Markdown
    #[arg(long, conflicts_with_all = ["name", "json"])]
    markdown: bool,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

impl Config {
    pub fn run(self) -> anyhow::Result<()> {
        if self.markdown {
            return Ok(output::print(settings_page())?);
        }
        let all = descriptions();
        let of_section = |name: &str| {
            let of = all.iter().filter(|setting| setting.section == name);
            of.cloned().collect::<Vec<_>>()
        };
        let shown = match self.name.as_deref() {
            None => all.clone(),
            Some(name) if !name.is_empty() && !of_section(name).is_empty() => of_section(name),
            Some(name) => {
                let setting = describe(name)?;
                return match self.json {
                    true => output::json(&setting),
                    false => Ok(output::print(explained(&setting))?),
                };
            }
        };
        match self.json {
            true => output::json(&shown),
            false => Ok(output::print(listed(&shown))?),
        }
    }
}

/// The settings under their sections: name and default, what is accepted, what it does.
fn listed(settings: &[Description]) -> String {
    let mut out = String::new();
    let mut section = None;
    for setting in settings {
        if section != Some(setting.section) {
            let about = setting.section_docs.as_str();
            let _ = match setting.section {
                "" => writeln!(out, "Above all sections"),
                name => writeln!(out, "\n[{name}]  {about}"),
            };
            section = Some(setting.section);
        }
        let default = setting.default.as_deref().unwrap_or("unset");
        // Writing to a string does not fail.
        let _ = writeln!(out, "  {} = {default}  ({})", setting.name, setting.accepts);
        let _ = writeln!(out, "      {}", setting.first_sentence());
    }
    let mut out = out.trim_start_matches('\n').to_owned();
    out += "\nrekindle config NAME explains one, such as train.learning_rate\n";
    out
}

/// Everything about one setting.
fn explained(setting: &Description) -> String {
    let mut out = format!("{}\n\n{}\n\n", setting.path, setting.docs);
    let mut row = |name: &str, value: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{name:<13}{value}");
    };
    row("accepts", &setting.accepts);
    row("default", setting.default.as_deref().unwrap_or("unset"));
    for (task, default) in &setting.defaults {
        row("", &format!("{default} for {task}"));
    }
    if let Some(example) = &setting.example {
        row("example", &format!("{} = {example}", setting.name));
    }
    if !setting.other_names.is_empty() {
        row("elsewhere", &setting.other_names.join(", "));
    }
    row("tasks", &setting.tasks.join(", "));
    row("set it", &format!("--set {}=VALUE", setting.path));
    out
}
