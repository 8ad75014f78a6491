//! The reliability diagram: of the predictions of like confidence, how many came true.

use std::fmt::Write;

use rekindle_metrics::{CalibrationBin, CalibrationReport};

use super::text::{count, percent};

/// The diagram, with how many predictions each bin has below it.
pub fn html(report: &CalibrationReport) -> String {
    let most = report.bins.iter().map(|bin| bin.examples).max();
    let Some(most) = most.filter(|&most| most > 0) else {
        return String::new();
    };
    let (mut svg, mut labels, mut over, mut shares) =
        (String::new(), String::new(), String::new(), String::new());
    // Writing to a string does not fail.
    for tick in 0..=4 {
        let at = f64::from(tick) * 25.0;
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M0 {0:.0}H1000\"/>",
            1000.0 - at * 10.0
        );
        let _ = write!(
            labels,
            "<span class=\"y\" style=\"top:{:.0}%\">{at:.0} %</span><span class=\"x\" style=\"left:{at:.0}%\">{at:.0} %</span>",
            100.0 - at
        );
    }
    for bin in &report.bins {
        let CalibrationBin {
            from,
            to,
            examples,
            confidence,
            accuracy,
        } = *bin;
        let (left, width) = (from * 1000.0 + 4.0, (to - from) * 1000.0 - 8.0);
        let top = (1.0 - accuracy) * 1000.0;
        let _ = write!(
            svg,
            "<path class=\"right-share\" d=\"M{left:.0} 1000V{top:.0}h{width:.0}V1000z\"/>"
        );
        let share = examples as f64 / most as f64 * 100.0;
        let _ = write!(
            shares,
            "<i class=\"bar quiet\" style=\"left:{:.2}%;width:{:.2}%;height:{share:.1}%\"></i>",
            left / 10.0,
            width / 10.0
        );
        let _ = write!(
            over,
            "<i class=\"hover{}\" style=\"left:{:.2}%;width:{:.2}%\" data-t=\"{} {}: {} sure, {} right\"></i>",
            if from > 0.5 { " left" } else { "" },
            from * 100.0,
            (to - from) * 100.0,
            count(examples),
            if examples == 1 { "example" } else { "examples" },
            percent(confidence),
            percent(accuracy)
        );
    }
    let (sure, right, n) = report
        .bins
        .iter()
        .fold((0.0, 0.0, 0), |(sure, right, n), bin| {
            let examples = bin.examples as f64;
            (
                sure + bin.confidence * examples,
                right + bin.accuracy * examples,
                n + bin.examples,
            )
        });
    let (sure, right) = (sure / n as f64, right / n as f64);
    let tendency = match sure - right {
        difference if difference > 0.02 => "surer than it is right",
        difference if difference < -0.02 => "less sure than it is right",
        _ => "as sure as it is right",
    };
    format!(
        "<p class=\"lede\">On the whole the model is {tendency}: {} sure, {} right. Bars are the share that is right among predictions of like \
         confidence; on the dashed line both agree. The mean distance is {} (ECE).</p>\
         <div class=\"charts\"><figure class=\"chart reliability\"><figcaption><b>Right</b> <span class=\"unit\">by confidence</span></figcaption>\
         <div class=\"plot\" role=\"img\" aria-label=\"Share of right predictions by confidence, {} bins\">\
         <svg viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\" aria-hidden=\"true\">{svg}\
         <path class=\"diagonal\" d=\"M0 1000L1000 0\"/></svg>{labels}{over}</div>\
         <p class=\"xlabel\">confidence</p>\
         <p class=\"unit\">examples, {} at most</p><div class=\"shares\" aria-hidden=\"true\">{shares}</div></figure></div>\n",
        percent(sure),
        percent(right),
        percent(report.ece),
        report.bins.len(),
        count(most),
    )
}
