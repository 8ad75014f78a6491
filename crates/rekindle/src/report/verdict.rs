//! Whether the model is better than a guess: in words, with a sign and a scale, so that no one needs to tell colours apart.

use super::text::{escape, figure, percent};
use crate::guess::Guess;

/// From this part of what a guess leaves to gain on, the gain is large.
const LARGE: f64 = 0.5;

/// The class of the headline: `poor`, `some`, `good`; none where there is nothing to compare with.
pub fn class(guess: Option<&Guess>) -> &'static str {
    match guess {
        None => "",
        Some(guess) if !guess.beaten => "poor",
        Some(guess) if guess.gain() < LARGE => "some",
        Some(_) => "good",
    }
}

/// The verdict, with guess and model on a scale from 0 to 1; or why there is none.
pub fn html(guess: Option<&Guess>, too_few: Option<&str>) -> String {
    let class = class(guess);
    let Some(found) = guess else {
        return too_few.map_or_else(String::new, |words| {
            format!(
                "<div class=\"verdict-on\"><p>{}.</p></div>\n",
                escape(words)
            )
        });
    };
    let (sign, words) = match class {
        "poor" => ("▼", "No better"),
        "some" => ("▲", "Better"),
        _ => ("▲▲", "Far better"),
    };
    let rival = match found.is_base() {
        true => "before training",
        false => "guessing",
    };
    let Guess {
        how,
        figure: name,
        value,
        found: of_model,
        ..
    } = found;
    let gained = match class {
        "poor" => String::new(),
        _ => format!(": {} of what was left to gain", percent(found.gain())),
    };
    let at = |value: f64| match value.is_nan() {
        true => 0.0,
        false => value.clamp(0.0, 1.0) * 100.0,
    };
    let (low, high) = (at(value.min(*of_model)), at(value.max(*of_model)));
    let found = match of_model.is_finite() {
        true => figure(*of_model),
        false => "not defined, all answers being alike".to_owned(),
    };
    // Names with capitals of their own, such as mAP, stay as they are.
    let capital = match name.chars().any(char::is_uppercase) {
        true => escape(name),
        false => {
            let mut letters = name.chars();
            let first = letters.next().map(|letter| letter.to_ascii_uppercase());
            escape(&first.into_iter().chain(letters).collect::<String>())
        }
    };
    let name = escape(name);
    format!(
        "<div class=\"verdict-on {class}\"><p><b><span class=\"sign\" aria-hidden=\"true\">{sign}</span> {words} than {rival}.</b> \
         {capital} {found}, where {} gives {}{gained}.</p>\
         <div class=\"scale\" role=\"img\" aria-label=\"{name} from 0 to 1: guess {}, model {found}\">\
         <i class=\"gain\" style=\"left:{low:.1}%;width:{:.1}%\"></i>\
         <i class=\"guess\" style=\"left:{:.1}%\"></i><i class=\"model\" style=\"left:{:.1}%\"></i></div>\
         <p class=\"ends\"><span>0</span><span><i class=\"guess\"></i>guess <i class=\"model\"></i>model</span><span>1</span></p></div>\n",
        escape(how),
        figure(*value),
        figure(*value),
        high - low,
        at(*value),
        at(*of_model),
    )
}
