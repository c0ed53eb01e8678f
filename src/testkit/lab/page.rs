//! All tables and plots of one experiment as one HTML page that needs nothing but itself: to be opened, sent, printed.

use std::fmt::Write;

use super::plot::{Plot, escaped};
use super::table::{Cell, Table};

const STYLE: &str = "body{font:15px/1.5 Inter,'Helvetica Neue',Arial,'DejaVu Sans',sans-serif;color:#222;max-width:70rem;\
margin:2.5rem auto;padding:0 1.5rem}h1{font-size:1.6rem}h2{font-size:1.15rem;margin:2.2rem 0 .3rem}\
p.note{color:#555;margin:.2rem 0 .7rem;white-space:pre-line}p.fact{color:#555;margin:.1rem 0;white-space:pre-line}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.86rem}\
th{text-align:left;border-bottom:2px solid #888;padding:.25rem .8rem .25rem 0;vertical-align:bottom}\
td{border-bottom:1px solid #ddd;padding:.22rem .8rem .22rem 0}td.n{text-align:right;white-space:nowrap}\
td.ok{color:#00703c;font-weight:600}td.bad{color:#fff;background:#b3261e;font-weight:600;padding-left:.4rem}\
svg{max-width:100%;height:auto;margin:1.2rem 0 .3rem}div.wide{overflow-x:auto}@media print{h2{break-after:avoid}}";

/// The page's text.
pub fn page(name: &str, facts: &[String], tables: &[Table], plots: &[Plot]) -> String {
    let title = format!("tonewall bench {name}");
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style>\n<h1>{title}</h1>\n"
    );
    for fact in facts {
        let _ = writeln!(out, "<p class=\"fact\">{}</p>", escaped(fact));
    }
    for plot in plots {
        out += &plot.svg();
    }
    for table in tables {
        let _ = writeln!(out, "<h2>{}</h2>\n<p class=\"note\">{}</p>", escaped(&table.title), escaped(&table.note));
        out += "<div class=\"wide\"><table><tr>";
        for column in table.columns() {
            let _ = write!(out, "<th>{}</th>", escaped(column));
        }
        out += "</tr>\n";
        for row in table.rows() {
            out += "<tr>";
            for cell in row {
                let class = match cell {
                    Cell::Verdict(true) => "ok",
                    Cell::Verdict(false) => "bad",
                    Cell::Text(_) => "t",
                    _ => "n",
                };
                let _ = write!(out, "<td class=\"{class}\">{}</td>", escaped(&cell.text()));
            }
            out += "</tr>\n";
        }
        out += "</table></div>\n";
    }
    out + "</html>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_holds_everything_and_escapes_it() {
        let mut table = Table::new("t", "A < B", &["x"]).note("first\nsecond");
        table.row([Cell::from(false)]);
        let page = page("leak", &["seed & size".to_owned()], &[table], &[]);
        assert!(page.contains("A &lt; B") && page.contains("seed &amp; size"));
        assert!(page.contains("<td class=\"bad\">FAILED</td>"));
    }
}
