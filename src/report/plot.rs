//! A proof as a picture: memory in use and memory written over time, against the limit and the predicted death point.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::proof::stress::StressRecord;
use crate::proof::{Record, Sample};
use crate::units::MIB;

/// Width and height in pixels; the picture is scaled to the page.
const SIZE: (u32, u32) = (800, 320);

/// Read well on light and dark ground.
const TEXT: RGBColor = RGBColor(118, 131, 144);
const USED: RGBColor = RGBColor(47, 129, 247);
const WRITTEN: RGBColor = RGBColor(163, 113, 247);
const LIMIT: RGBColor = RGBColor(229, 83, 75);
const PREDICTED: RGBColor = RGBColor(198, 144, 38);

/// What could not be drawn; there is nobody but the picture to tell.
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// What is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    pub samples: &'a [Sample],
    pub limit_bytes: Option<u64>,
    pub predicted_bytes: Option<u64>,
    /// A worker was OOM-killed in the end.
    pub killed: bool,
}

impl<'a> From<&'a Record> for Picture<'a> {
    fn from(record: &'a Record) -> Self {
        let kills = |counters: Option<crate::cgroup::Counters>| counters.map_or(0, |c| c.oom_kill);
        Self {
            samples: &record.samples,
            limit_bytes: record.cgroup.as_ref().and_then(|cgroup| cgroup.limit_bytes),
            predicted_bytes: record.predicted_bytes.filter(|_| record.target_bytes >= record.predicted_bytes),
            killed: kills(record.counters_after) > kills(record.counters_before),
        }
    }
}

impl<'a> From<&'a StressRecord> for Picture<'a> {
    fn from(record: &'a StressRecord) -> Self {
        let limit_bytes = record.cgroup.as_ref().and_then(|cgroup| cgroup.limit_bytes);
        Self { samples: &record.samples, limit_bytes, predicted_bytes: None, killed: false }
    }
}

/// The picture as SVG; `None` where there is nothing to show.
#[must_use]
pub fn svg(picture: Picture<'_>) -> Option<String> {
    if picture.samples.is_empty() {
        return None;
    }
    let mut text = String::new();
    draw(picture, SVGBackend::with_string(&mut text, SIZE).into_drawing_area()).ok()?;
    Some(text)
}

fn draw(picture: Picture<'_>, area: DrawingArea<SVGBackend<'_>, Shift>) -> Drawn {
    let points: Vec<_> = picture.samples.iter().map(|sample| (seconds(sample), *sample)).collect();
    let end = points.last().map_or(1.0, |(at, _)| at.max(0.001));
    let highest =
        points.iter().map(|(_, s)| s.usage_bytes.max(s.touched_bytes)).chain(picture.limit_bytes).max();
    let mut chart = ChartBuilder::on(&area)
        .margin(8)
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..end, 0.0..mib(highest.unwrap_or(1)) * 1.08)?;
    let labels = ("sans-serif", 13).into_font().color(&TEXT);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(TEXT.mix(0.2))
        .axis_style(TEXT.mix(0.6))
        .label_style(labels.clone())
        .axis_desc_style(labels.clone())
        .x_desc("seconds")
        .y_desc("MiB")
        .x_label_formatter(&|at| if end < 1.0 { format!("{at:.3}") } else { format!("{at:.1}") })
        .y_label_formatter(&|mib| format!("{mib:.0}"))
        .draw()?;
    let level = |bytes: u64| [(0.0, mib(bytes)), (end, mib(bytes))];
    let line = |of: fn(&Sample) -> u64| points.iter().map(move |(at, sample)| (*at, mib(of(sample))));
    chart
        .draw_series(LineSeries::new(line(|s| s.touched_bytes), WRITTEN.stroke_width(2)))?
        .label("written")
        .legend(key(WRITTEN));
    chart
        .draw_series(LineSeries::new(line(|s| s.usage_bytes), USED.stroke_width(2)))?
        .label("in use")
        .legend(key(USED));
    if let Some(limit) = picture.limit_bytes {
        let series = LineSeries::new(level(limit), LIMIT.stroke_width(2));
        chart.draw_series(series)?.label("limit").legend(key(LIMIT));
    }
    if let Some(predicted) = picture.predicted_bytes {
        let dashes = DashedLineSeries::new(level(predicted), 6, 4, PREDICTED.stroke_width(1));
        chart.draw_series(dashes)?.label("predicted death").legend(key(PREDICTED));
    }
    if let Some((at, last)) = points.last().filter(|_| picture.killed) {
        let dead = Cross::new((*at, mib(last.touched_bytes)), 5, LIMIT.stroke_width(2));
        let legend = |(x, y)| Cross::new((x + 8, y), 4, LIMIT.stroke_width(2));
        chart.draw_series([dead])?.label("killed").legend(legend);
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .label_font(labels)
        .border_style(TRANSPARENT)
        .draw()?;
    area.present()?;
    Ok(())
}

fn seconds(sample: &Sample) -> f64 {
    std::time::Duration::from_micros(sample.at_us).as_secs_f64()
}

fn key(color: RGBColor) -> impl Fn((i32, i32)) -> PathElement<(i32, i32)> {
    move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2))
}

/// MiB as a coordinate; no picture shows more than 52 bits.
#[expect(clippy::cast_precision_loss, reason = "a coordinate of a picture")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::history::tests::ENFORCED;

    #[test]
    fn a_proof_is_drawn_against_its_limit() {
        let record: Record = serde_json::from_str(ENFORCED).unwrap();
        let picture = svg(Picture::from(&record)).unwrap();
        assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
        for label in ["written", "in use", "limit", "predicted death", "killed"] {
            assert!(picture.contains(label), "{label}");
        }
    }

    #[test]
    fn without_samples_there_is_no_picture() {
        let mut record: Record = serde_json::from_str(ENFORCED).unwrap();
        record.samples.clear();
        assert_eq!(svg(Picture::from(&record)), None);
    }
}
