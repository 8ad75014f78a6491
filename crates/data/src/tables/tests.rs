//! Tables of good and bad files, one check for each.
#![allow(clippy::unwrap_used)]

use std::fs;

use super::*;

/// A folder with the files of one case.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn read(name: &str, bytes: &[u8], options: &ReadOptions) -> Result<ReadOutcome, String> {
    let folder = folder();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    // Messages start with the path; the folder's random name is cut out of them.
    let prefix = format!("{}/", folder.path().display());
    read_examples(&path, options).map_err(|error| error.to_string().replace(&prefix, ""))
}

fn options(pairs: &[(&str, &str)]) -> ReadOptions {
    let mut options = ReadOptions::default();
    for (key, value) in pairs {
        match *key {
            "text" => options.text = Some(Column::from(*value)),
            "text_pair" => options.text_pair = Some(Column::from(*value)),
            "label" => options.labels.push(Column::from(*value)),
            "target" if *value == "real" => options.target = TargetKind::Real,
            "target" => options.target = TargetKind::Classes,
            "separator" => options.separator = value.chars().next(),
            "header" => options.header = Some(*value == "true"),
            "quoting" => options.quoting = Some(*value == "true"),
            "delimiter" => options.delimiter = Some(value.as_bytes()[0]),
            "skip" => options.on_bad_example = OnBad::Skip,
            "limit" => options.limit = Some(Limit::first(value.parse().unwrap())),
            "require_label" => options.require_label = true,
            other => panic!("no option {other}"),
        }
    }
    options
}

/// `line|text|pair|label` of each example; `-` for none.
fn shown(outcome: &ReadOutcome) -> Vec<String> {
    let or_dash = |value: Option<&str>| value.unwrap_or("-").to_owned();
    outcome
        .examples
        .iter()
        .map(|example| {
            let label = example.label.as_ref().map(RawTarget::to_string);
            format!(
                "{}|{}|{}|{}",
                example.place.line,
                example.text,
                or_dash(example.text_pair.as_deref()),
                or_dash(label.as_deref())
            )
        })
        .collect()
}

/// What a case is, the file's name and content, options, and the examples expected.
type Good = (
    &'static str,
    &'static str,
    &'static [u8],
    &'static [(&'static str, &'static str)],
    &'static [&'static str],
);

#[rustfmt::skip]
const GOOD: &[Good] = &[
    ("header with known names", "a.csv", b"text,label\ngood film,pos\nbad film,neg\n", &[], &["2|good film|-|pos", "3|bad film|-|neg"]),
    ("columns in another order", "a.csv", b"idx,label,sentence\n0,1,hi\n", &[], &["2|hi|-|1"]),
    ("no line end at the end", "a.csv", b"text,label\na,b", &[], &["2|a|-|b"]),
    ("CRLF", "a.csv", b"text,label\r\na,x\r\n\"b\",\"y\"\r\n", &[], &["2|a|-|x", "3|b|-|y"]),
    ("byte order mark", "a.csv", b"\xEF\xBB\xBFtext,label\na,b\n", &[], &["2|a|-|b"]),
    ("blank lines", "a.csv", b"\n\ntext,label\n\na,b\n\r\n\nc,d\n\n", &[], &["5|a|-|b", "8|c|-|d"]),
    ("quoted delimiters, quotes and line ends", "a.csv", b"text,label\n\"a, \"\"b\"\"\nc\",x\n\"\",\nd,y\n", &[("skip", "")], &["2|a, \"b\"\nc|-|x", "5|d|-|y"]),
    ("quotes inside an unquoted field", "a.csv", b"text,label\n5\" disk \"x\",y\n", &[], &["2|5\" disk \"x\"|-|y"]),
    ("quotes are ordinary in TSV", "a.tsv", b"text\tlabel\n\"He said\tx\nand \"left\ty\n", &[], &["2|\"He said|-|x", "3|and \"left|-|y"]),
    ("quoting in TSV on request", "a.tsv", b"text\tlabel\n\"a\tb\"\tx\n", &[("quoting", "true")], &["2|a\tb|-|x"]),
    ("semicolons of a spreadsheet", "a.csv", b"text;label\na, b;x\n", &[], &["2|a, b|-|x"]),
    ("a delimiter of one's own", "a.csv", b"text|label\na,b|x\n", &[("delimiter", "|")], &["2|a,b|-|x"]),
    ("no header, told by a label that comes again", "a.tsv", b"Stocks fall\tBusiness\nTeam wins\tSports\nStocks rise\tBusiness\n", &[], &["1|Stocks fall|-|Business", "2|Team wins|-|Sports", "3|Stocks rise|-|Business"]),
    ("no header, told by a number", "a.csv", b"1,good\n0,bad\n1,fine\n", &[("text", "1")], &["1|good|-|-", "2|bad|-|-", "3|fine|-|-"]),
    ("no header, a label that reads like a name of ours", "a.csv", b"what is this,question\nwhere is it,question\nsay it,order\n", &[], &["1|what is this|-|question", "2|where is it|-|question", "3|say it|-|order"]),
    ("no header, columns by number", "a.csv", b"x,hello,pos,y\n", &[("text", "1"), ("label", "2"), ("header", "false")], &["1|hello|-|pos"]),
    ("a header field that is a number wins", "a.csv", b"1,0\nlabel a,text b\n", &[("text", "0"), ("label", "1"), ("header", "true")], &["2|text b|-|label a"]),
    ("one column, no label", "a.csv", b"text\nhello\n", &[], &["2|hello|-|-"]),
    ("columns named by the user", "a.csv", b"kind,phrase\nx,hello\n", &[("text", "phrase"), ("label", "kind")], &["2|hello|-|x"]),
    ("the only columns left", "a.csv", b"id,phrase,kind\n7,hello,x\n", &[("text", "phrase"), ("require_label", "")], &["2|hello|-|x"]),
    ("a well-known pair", "a.tsv", b"premise\thypothesis\tlabel\na\tb\t2\n", &[], &["2|a|b|2"]),
    ("QNLI's pair", "a.tsv", b"index\tquestion\tsentence\tlabel\n0\tq\ts\tentailment\n", &[], &["2|q|s|entailment"]),
    ("a pair named by the user", "a.csv", b"l,r,label\na,b,2\n", &[("text", "l"), ("text_pair", "r")], &["2|a|b|2"]),
    ("label and label_text", "a.csv", b"text,label,label_text\na,0,neg\n", &[], &["2|a|-|0"]),
    ("labels are trimmed, texts are not", "a.csv", b"text,label\n a ,  x \n", &[], &["2| a |-|x"]),
    ("NUL bytes", "a.csv", b"text,label\na\0b,x\n", &[], &["2|a\0b|-|x"]),
    ("the first rows only", "a.csv", b"text,label\na,x\nb,y\n,z\n", &[("limit", "2")], &["2|a|-|x", "3|b|-|y"]),
    ("an unlabelled row where labels are not needed", "a.csv", b"text,label\na,\n", &[], &["2|a|-|-"]),
    ("skipping bad rows", "a.csv", b"text,label\na,x\nb\n,y\nc,\n\xFF,z\n\"d,w\ne,v\n", &[("skip", ""), ("require_label", "")], &["2|a|-|x", "8|e|-|v"]),
    ("JSON labels of all kinds", "a.jsonl", b"{\"text\":\"a\",\"label\":\"x\"}\n{\"text\":\"b\",\"label\":3}\n\n{\"label\":true,\"text\":\"c\"}\n{\"text\":\"d\",\"label\":null}\n", &[], &["1|a|-|x", "2|b|-|3", "4|c|-|true", "5|d|-|-"]),
    ("JSON escapes", "a.jsonl", b"{\"text\":\"\\u00e9\\n\\ud83d\\ude00\"}\r\n", &[], &["1|\u{e9}\n\u{1f600}|-|-"]),
    ("a JSON field that starts later", "a.jsonl", b"{\"text\":\"a\"}\n{\"text\":\"b\",\"kind\":1}\n", &[("label", "kind")], &["1|a|-|-", "2|b|-|1"]),
    ("JSON numbers", "a.jsonl", b"{\"text\":\"a\",\"label\":1.0}\n{\"text\":\"b\",\"label\":0.5}\n{\"text\":\"c\",\"label\":18446744073709551615}\n", &[], &["1|a|-|1", "2|b|-|0.5", "3|c|-|18446744073709551615"]),
    ("a number to predict, by its name", "a.csv", b"id,score,text\n7,-0.25,a\n8,3,b\n9,1e-3,c\n", &[("target", "real"), ("require_label", "")], &["2|a|-|-0.25", "3|b|-|3", "4|c|-|0.001"]),
    ("several numbers to predict", "a.csv", b"text,valence,arousal\na,1,2.5\n", &[("target", "real"), ("label", "valence"), ("label", "arousal")], &["2|a|-|1, 2.5"]),
    ("JSON numbers to predict", "a.jsonl", b"{\"text\":\"a\",\"score\":0.5}\n{\"text\":\"b\",\"score\":2}\n{\"text\":\"c\",\"score\":\"1.5\"}\n", &[("target", "real"), ("require_label", "")], &["1|a|-|0.5", "2|b|-|2", "3|c|-|1.5"]),
    ("no header, the column of numbers", "a.tsv", b"good one\t1.5\nbad one\t0.25\n", &[("target", "real"), ("require_label", "")], &["1|good one|-|1.5", "2|bad one|-|0.25"]),
    ("bad numbers are skipped", "a.csv", b"text,score\na,1\nb,x\nc,NaN\nd,\ne,2\n", &[("target", "real"), ("require_label", ""), ("skip", "")], &["2|a|-|1", "6|e|-|2"]),
    ("numbers that are not needed", "a.csv", b"text,score\na,x\nb,2\n", &[("target", "real")], &["2|a|-|-", "3|b|-|2"]),
    ("labels with a separator", "a.csv", b"text,tags\na,x|y\nb,\nc, y | y | \nd,z\n", &[("target", "sets"), ("require_label", "")], &["2|a|-|[x, y]", "3|b|-|[]", "4|c|-|[y]", "5|d|-|[z]"]),
    ("labels with a comma in them", "a.csv", b"text,tags\na,\"x, y;z\"\nb,z;w\n", &[("target", "sets")], &["2|a|-|[x, y, z]", "3|b|-|[z, w]"]),
    ("a separator of one's own", "a.csv", b"text,tags\na,x y;z\n", &[("target", "sets"), ("separator", " ")], &["2|a|-|[x, y;z]"]),
    ("lists of a data frame", "a.csv", b"text,tags\na,\"['x', 'y']\"\nb,[]\n", &[("target", "sets"), ("require_label", "")], &["2|a|-|[x, y]", "3|b|-|[]"]),
    ("JSON lists", "a.jsonl", b"{\"text\":\"a\",\"labels\":[\"x\",\" y\",\"x\"]}\n{\"text\":\"b\",\"labels\":[]}\n{\"text\":\"c\",\"labels\":[3,true]}\n", &[("target", "sets"), ("require_label", "")], &["1|a|-|[x, y]", "2|b|-|[]", "3|c|-|[3, true]"]),
    ("columns of 0 and 1", "a.csv", b"text,rude,mad\na,1,0\nb,0,0\nc,yes,true\n", &[("target", "sets"), ("label", "rude"), ("label", "mad"), ("require_label", "")], &["2|a|-|[rude]", "3|b|-|[]", "4|c|-|[rude, mad]"]),
    ("columns of 0 and 1, as all that are left", "a.csv", b"id,text,rude,mad\n7,a,1,0\n8,b,0,0\n", &[("target", "sets"), ("require_label", "")], &["2|a|-|[rude]", "3|b|-|[]"]),
    ("a JSON array", "a.json", b"[\n {\"text\": \"a\",\n  \"label\": \"x\"},\n {\"text\": \"b\", \"label\": \"y\"}\n]\n", &[], &["2|a|-|x", "4|b|-|y"]),
    ("numbers that JSON does not have", "a.jsonl", b"{\"text\":\"NaN, a\",\"n\":NaN,\"label\":\"x\"}\n{\"text\":\"b\",\"n\":-Infinity,\"label\":NaN}\n", &[], &["1|NaN, a|-|x", "2|b|-|-"]),
    ("UTF-16", "a.csv", b"\xFF\xFEt\0e\0x\0t\0,\0l\0a\0b\0e\0l\0\n\0\xE9\0,\0x\0", &[], &["2|\u{e9}|-|x"]),
    ("carriage returns alone", "a.csv", b"text,label\ra,x\rb,y\r", &[], &["2|a|-|x", "3|b|-|y"]),
    ("a header that comes again", "a.csv", b"text,label\na,x\nb,y\n text , label\nc,x\n", &[], &["2|a|-|x", "3|b|-|y", "5|c|-|x"]),
    ("a text that is the word of its column", "a.csv", b"text,label\na,x\ntext,y\n", &[], &["2|a|-|x", "3|text|-|y"]),
    ("a row like the first of a file without header", "a.csv", b"hi,greet\nhi,greet\nbye,leave\nso long,leave\n", &[("header", "false")], &["1|hi|-|greet", "2|hi|-|greet", "3|bye|-|leave", "4|so long|-|leave"]),
    ("a header of unknown names over numbers", "a.csv", b"customer wrote,stars given\na,1\nb,2\nc,1\n", &[("label", "1")], &["2|a|-|1", "3|b|-|2", "4|c|-|1"]),
    ("semicolons below a comma in every text", "a.csv", b"well, thanks;pos\nwell, no;neg\nwell, again;pos\n", &[], &["1|well, thanks|-|pos", "2|well, no|-|neg", "3|well, again|-|pos"]),
    ("a comma in the name of a column", "a.csv", b"review, whole;label\nfine, thanks;x\nno, never;y\n", &[("text", "0")], &["2|fine, thanks|-|x", "3|no, never|-|y"]),
    ("bars", "a.csv", b"text|label\na, b|x\nc|y\n", &[], &["2|a, b|-|x", "3|c|-|y"]),
    ("decimal commas", "a.csv", b"good one;1,5\nbad one;0,25\nfair one;0,5\n", &[("text", "0"), ("label", "1")], &["1|good one|-|1,5", "2|bad one|-|0,25", "3|fair one|-|0,5"]),
    ("a first line that names the delimiter", "a.csv", b"sep=;\r\ntext;label\r\na, b;x\r\n", &[], &["3|a, b|-|x"]),
    ("the same in quotes, a tab", "a.csv", b"\"sep=\t\"\ntext\tlabel\na, b\tx\n", &[], &["3|a, b|-|x"]),
    ("spaces between a delimiter and a quote", "a.csv", b"\"text\", \"label\"\n\"a, b\",  \"x\"\n \"c\" , \"y\" \n", &[], &["2|a, b|-|x", "3|c|-|y"]),
    ("a text that only begins with a quote", "a.csv", b"text,label\n \"so\" it is,x\n \"so,y\n", &[], &["2| \"so\" it is|-|x", "3| \"so|-|y"]),
    ("a header that comes again in other case, with a byte order mark", "a.csv", b"text,label\na,x\n\xEF\xBB\xBFtext,label\nb,y\nText,LABEL\n\xEF\xBB\xBF\"text\",\"label\"\nc,x\n", &[], &["2|a|-|x", "4|b|-|y", "7|c|-|x"]),
    ("TSV in quotes", "a.tsv", b"\"text\"\t\"label\"\n\"a\tb\nc\"\t\"x\"\n\"d\"\t\"y\"\n", &[], &["2|a\tb\nc|-|x", "4|d|-|y"]),
    ("TSV with quotes where they are needed", "a.tsv", b"text\tlabel\n\"a \"\"b\"\"\"\tx\nd\ty\n", &[], &["2|a \"b\"|-|x", "3|d|-|y"]),
    ("TSV with texts in quotes of their own", "a.tsv", b"text\tlabel\n\"a\"\tx\nd\ty\n", &[], &["2|\"a\"|-|x", "3|d|-|y"]),
    ("tabs between a delimiter and a quote", "a.csv", b"text,label\n\"a, b\",\t\"x\"\n\"c\"\t,\"y\"\n", &[], &["2|a, b|-|x", "3|c|-|y"]),
    ("what a spreadsheet keeps as text", "a.csv", b"text,label\na,=\"01\"\nb,\"=\"\"02\"\"\"\n", &[], &["2|a|-|01", "3|b|-|02"]),
    ("JSON objects over several lines", "a.jsonl", b"{\n  \"text\": \"a\",\n  \"label\": \"x\"\n}\n{\n  \"text\": \"b\"}\n", &[], &["1|a|-|x", "5|b|-|-"]),
    ("whole numbers beyond floats", "a.csv", b"text,label\na,90071992547409931234\nb,90071992547409931235\n", &[], &["2|a|-|90071992547409931234", "3|b|-|90071992547409931235"]),
    ("lists as NumPy writes them", "a.csv", b"text,tags\na,['x' 'y']\nb,['x']\n", &[("target", "sets"), ("require_label", "")], &["2|a|-|[x, y]", "3|b|-|[x]"]),
    ("a column of parts is no label", "a.csv", b"text,kind,split\na,x,train\nb,y,test\n", &[("require_label", "")], &["2|a|-|x", "3|b|-|y"]),
    ("duplicate columns by number", "a.csv", b"text,text,label\na,b,x\n", &[("text", "1")], &["2|b|-|x"]),
    ("JSON with a byte order mark", "a.jsonl", b"\xEF\xBB\xBF{\"utterance\":\"a\",\"intent\":\"x\"}", &[], &["1|a|-|x"]),
];

#[test]
fn good_files_give_their_examples() {
    for (what, name, bytes, pairs, expect) in GOOD {
        match read(name, bytes, &options(pairs)) {
            Ok(outcome) => assert_eq!(shown(&outcome), *expect, "{what}"),
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

/// The file's name and content, options, and the whole message expected.
type Bad = (
    &'static str,
    &'static [u8],
    &'static [(&'static str, &'static str)],
    &'static str,
);

#[rustfmt::skip]
const BAD: &[Bad] = &[
    ("a.csv", b"", &[], "a.csv: the file is empty\nhint: expected a table of examples, one in a row; check how the file was made"),
    ("a.csv", b"\n\r\n  \n", &[], "a.csv: the file is empty\nhint: expected a table of examples, one in a row; check how the file was made"),
    ("a.csv", b"\xEF\xBB\xBF", &[], "a.csv: the file is empty\nhint: expected a table of examples, one in a row; check how the file was made"),
    ("a.csv", b"text,label\n", &[], "a.csv: there are no rows below the header\nhint: if the first row is data: --set data.header=false"),
    ("a.csv", b"\xFF\xFEt\0x", &[], "a.csv: expected UTF-8, found damaged UTF-16\nhint: save the file as UTF-8"),
    ("a.csv", b"t\0e\0x\0t\0\n\0a\0", &[], "a.csv: expected UTF-8, found UTF-16 without a byte order mark\nhint: save the file as UTF-8"),
    ("a.csv", b"PK\x03\x04....[Content_Types].xml....xl/workbook.xml", &[], "a.csv: expected a table of examples, found an Excel workbook (.xlsx)\nhint: save the sheet as CSV (UTF-8)"),
    ("a.zip", b"PK\x03\x04....train.csv", &[], "a.zip: expected a table of examples, found a zip archive\nhint: unpack it, and name the file inside it"),
    ("a.csv", b"\n<!DOCTYPE html>\n<html>", &[], "a.csv: expected a table of examples, found a web page\nhint: the download link or a login was saved instead of the file; load the file itself"),
    ("a.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", &[], "a.csv: expected a table of examples, found a Git LFS pointer, which stands for the file\nhint: fetch the file itself with `git lfs pull`"),
    ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", &[], "a.parquet: expected a Parquet file, found a Git LFS pointer, which stands for the file\nhint: fetch the file itself with `git lfs pull`"),
    ("a.parquet", b"text,label\na,x\n", &[], "a.parquet: expected a Parquet file, found text\nhint: rename it to .csv, .tsv or .jsonl, or set data.format to what it is"),
    ("a.csv", b"{\"text\": \"a\", \"label\": \"x\"}\n", &[], "a.csv: expected a table of examples, found JSON\nhint: rename it to .jsonl, or --set data.format=jsonl"),
    ("a.jsonl", b"\x28\xB5\x2F\xFD....", &[], "a.jsonl: expected a table of examples, found a file packed with zstd\nhint: unpack it, or compress it with gzip, which is read"),
    ("a.csv", b"\x1F\x8B\x08\0\0", &[], "a.csv: expected a table of examples, found damaged gzip (unexpected end of file)\nhint: it was probably cut off on its way; copy it again"),
    ("a.csv", b"text,text,label\na,b,x\n", &[], "a.csv: 2 columns are named `text`: columns `0` and `1`, counted from 0\nhint: name the text column by its number, for example text = 0; or rename one"),
    ("a.xls", b"x", &[], "a.xls: cannot tell the format from the name\nhint: expected .csv, .tsv, .jsonl or .parquet; or set data.format, for a pipe too"),
    ("a.csv", b"text,label\na,x\n", &[("label", "lable")], "a.csv: no column `lable` for the label; expected one of `text` and `label`\nhint: did you mean `label`?"),
    ("a.csv", b"text,label\na,x\n", &[("text", "7")], "a.csv: no column `7` for the text; expected one of `text` and `label`\nhint: name one of them, or count from 0"),
    ("a.csv", b"text,label,label\na,x,y\n", &[("label", "label")], "a.csv: 2 columns are named `label`: columns `1` and `2`, counted from 0\nhint: name the label column by its number, for example label = 1; or rename one"),
    ("a.csv", b"text,label\na,x\n", &[("text", "text"), ("label", "text")], "a.csv: column `text` is named both as the text and as the label\nhint: name another column for one of them"),
    ("a.csv", b"text,sentence,label\na,b,x\n", &[], "a.csv: cannot tell which column is the text: `text` and `sentence`\nhint: name it, for example --text text"),
    ("a.csv", b"text,title,intent,topic\na,b,c,d\n", &[], "a.csv: cannot tell which column is the label: `intent` and `topic`\nhint: name it, for example --label intent; or, to learn to write such texts, --task text-generation"),
    ("a.csv", b"text\na\n", &[("require_label", "")], "a.csv: no column looks like the label among `text`\nhint: name it with --label"),
    ("a.csv", b"phrase one,kind of\na b,c\n", &[], "a.csv: cannot tell whether the first row is a header: `phrase one` and `kind of`\nhint: say which: --set data.header=true, or false"),
    ("a.csv", b"a,b,1\nc,d,2\n", &[], "a.csv: cannot tell which column is the text: `0`, `1` and `2`\nhint: name it, for example --text 0"),
    ("a.csv", b"text,label\na,x\nb,y,z\n", &[], "a.csv:3: expected 2 fields as in the first row, found 3\nhint: put a field that holds the delimiter in quotes, or name the delimiter; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.csv", b"text,label\n\"a\nb\",x\nb\n", &[], "a.csv:4: expected 2 fields as in the first row, found 1\nhint: put a field that holds the delimiter in quotes, or name the delimiter; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.csv", b"text,label\nok,x\ncaf\xE9,y\n", &[], "a.csv:3: byte 0xe9 at byte column 4 is not UTF-8\nhint: save the file as UTF-8, for example with `iconv -f latin1 -t utf-8`; Japanese files are often shift_jis, Chinese ones gb18030, Russian ones windows-1251; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.csv", b"text,label\n\"ok\nab\xC3(\",x\n", &[], "a.csv:3: byte 0xc3 at byte column 3 is not UTF-8\nhint: save the file as UTF-8, for example with `iconv -f latin1 -t utf-8`; Japanese files are often shift_jis, Chinese ones gb18030, Russian ones windows-1251; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.csv", b"text,label\na,x\n b,\"y\nc,z\n", &[], "a.csv:3: the quoted field that opens at byte column 4 is never closed\nhint: double a quote inside a quoted field (\"\"), or --set data.quoting=false if quotes are ordinary characters; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.csv", b"text,label\n\"a\nb\" c,x\n", &[], "a.csv:2: expected a delimiter after the quoted field that ends at line 3, byte column 2, found more text\nhint: double a quote inside a quoted field (\"\"), or --set data.quoting=false if quotes are ordinary characters; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.csv", b"text,label\n  ,x\n", &[], "a.csv:2: the text in column `text` is empty\nhint: fill in or remove the row; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.csv", b"text,label\na, \n", &[("require_label", "")], "a.csv:2: the label in column `label` is missing\nhint: label or remove the row; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.csv", b"text,label\n,x\na\n", &[("skip", "")], "a.csv: all 2 rows are bad; the first, line 2: the text in column `text` is empty\nhint: fill in or remove the row"),
    ("a.csv", b"a\nb\n", &[("delimiter", "\"")], "byte 0x22 cannot be a delimiter\nhint: expected one ASCII character that is no quote and no line end"),
    ("a.json", b" [{\"text\": \"a\"},\n{\"text\":", &[], "a.json:2: the JSON array is never closed\nhint: the file was probably cut off on its way; copy it again; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.jsonl", b"{\"text\": \"a\"}\n{\"text\": }\n", &[], "a.jsonl:2: not valid JSON at byte column 10: expected value\nhint: write one JSON object on each line; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.jsonl", b"\n{\"text\": \"a\"\n", &[("skip", "")], "a.jsonl:2: cannot tell the columns from the first row: not valid JSON at byte column 12: EOF while parsing an object\nhint: write one JSON object on each line; where that is so, the file was cut off"),
    ("a.jsonl", b"{\"text\": \"a\"}\n\"b\"\n", &[], "a.jsonl:2: expected a JSON object, found a string\nhint: write one JSON object on each line; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.jsonl", b"{\"text\": \"a\"}\n{\"txt\": \"b\"}\n", &[], "a.jsonl:2: the field `text` is missing\nhint: every line needs the same fields; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.jsonl", b"{\"text\": [\"a\"]}\n", &[], "a.jsonl:1: expected a string in `text`, found an array\nhint: check that the column is the right one; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.jsonl", b"{\"text\": 5}\n", &[], "a.jsonl:1: expected a string in `text`, found the number 5\nhint: check that the column is the right one; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.jsonl", b"{\"text\": \"a\", \"label\": {\"x\": 1}}\n", &[], "a.jsonl:1: expected a string, a number, a boolean or a list of them in `label`, found an object\nhint: check that the column is the right one; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.jsonl", b"{\"text\": \"a\", \"label\": [[\"x\"]]}\n", &[], "a.jsonl:1: expected a string, a number, a boolean or a list of them in `label`, found an array of arrays, objects or nulls\nhint: check that the column is the right one; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.csv", b"text,x,y\na,1,2\n", &[("label", "x"), ("label", "y")], "a.csv: expected one label column, found `x` and `y`\nhint: name one of them; several columns are for multi-label tasks and regression"),
    ("a.csv", b"text,x\na,1\n", &[("target", "real"), ("label", "x"), ("label", "x")], "a.csv: column `x` is named both as the label and as the label\nhint: name another column for one of them"),
    ("a.csv", b"text,score\na,1.5\nb,\"1,5\"\n", &[("target", "real"), ("require_label", "")], "a.csv:3: `1,5` in `score` has a decimal comma\nhint: write a point, as in 1.5; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.csv", b"text,score\na,inf\n", &[("target", "real"), ("require_label", "")], "a.csv:2: expected a finite number in `score`, found inf\nhint: remove the row, or write a number of at most 3.4e38; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.csv", b"text,score\na,good\n", &[("target", "real"), ("require_label", "")], "a.csv:2: expected a number in `score`, found `good`\nhint: write the number alone, or check that the column is the right one; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.csv", b"text,score\na,\n", &[("target", "real"), ("require_label", "")], "a.csv:2: the label in column `score` is missing\nhint: label or remove the row; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.csv", b"text,score,rating\na,1,2\n", &[("target", "real"), ("require_label", "")], "a.csv: cannot tell which column is the label: `score` and `rating`\nhint: name it, for example --label score; or, to learn to write such texts, --task text-generation"),
    ("a.csv", b"text,x,y\na,1,maybe\n", &[("target", "sets"), ("label", "x"), ("label", "y"), ("require_label", "")], "a.csv:2: expected 0 or 1 in `y`, found `maybe`\nhint: write 1 where the label is there and 0 where it is not; or name one column of lists; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.csv", b"text,x,y\na,1,\n", &[("target", "sets"), ("label", "x"), ("label", "y"), ("require_label", "")], "a.csv:2: the label in column `y` is missing\nhint: label or remove the row; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.jsonl", b"{\"text\": \"a\", \"tags\": [\"x\"]}\n{\"text\": \"b\", \"tags\": null}\n", &[("target", "sets"), ("require_label", "")], "a.jsonl:2: the label in column `tags` is missing\nhint: label or remove the row; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.csv", b"text,tags\na,['x'\nb,\"['y''z']\"\n", &[("target", "sets"), ("require_label", "")], "a.csv:3: cannot read the list in `tags`: ['y''z']\nhint: write a list as JSON does, [\"a\", \"b\"]; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.jsonl", b"{\"text\": \"a\"}\n{\"text\": \"\xF0\x9F\"}\n", &[], "a.jsonl:2: byte 0xf0 at byte column 11 is not UTF-8\nhint: save the file as UTF-8, for example with `iconv -f latin1 -t utf-8`; Japanese files are often shift_jis, Chinese ones gb18030, Russian ones windows-1251; or leave such rows out: --set data.on_bad_example=skip"),
    ("a.jsonl", b"{\"text\": \"a\"}\n", &[("text", "1")], "a.jsonl: no column `1` for the text; expected one of `text`\nhint: name one of them, or count from 0"),
    ("a.csv", b"# made by a tool\n# again\ntext,label\na,x\n", &[], "a.csv: cannot tell whether the first row is a header: `# made by a tool`\nhint: remove the 2 lines above `text,label`, which looks like the header"),
    ("a.csv", b"text~label\na b~x\nc~y\n", &[("require_label", ""), ("header", "true")], "a.csv: no column looks like the label among `text~label`\nhint: its rows look separated by '~': --set data.delimiter='~'"),
    ("a.csv", b"text:label\na b:x\nc:y\n", &[], "a.csv: cannot tell whether the first row is a header: `text:label`\nhint: its rows look separated by ':': --set data.delimiter=':'"),
    ("a.csv", b"\"text,label\"\n\"a,x\"\n", &[], "a.csv: cannot tell whether the first row is a header: `text,label`\nhint: whole rows stand in quotes: remove the first and the last quote of each"),
    ("a.csv", b"__label__x good one\n__label__y bad one here\n", &[], "a.csv: cannot tell whether the first row is a header: `__label__x good one`\nhint: its rows are fastText's: sed -E 's/^__label__([^ ]+) (.*)/\\1\\t\\2/' FILE > rows.tsv"),
    ("a.csv", b" text | label\n------+-------\n a | x\n", &[], "a.csv: expected a table of examples, found a table drawn with bars and dashes\nhint: write it as CSV: without the line of dashes, and without bars at the edges"),
    ("a.csv", b"| text | label |\n|---|:--|\n| a | x |\n", &[], "a.csv: expected a table of examples, found a table drawn with bars and dashes\nhint: write it as CSV: without the line of dashes, and without bars at the edges"),
    ("a.jsonl", b"text,label\na,x\n", &[], "a.jsonl: expected a table of examples, found a table with commas\nhint: rename it to .csv, or --set data.format=csv"),
    ("a.json", b"{\"data\": [{\"text\": \"a\"}, {\"text\": \"b\"}]}\n", &[], "a.json: expected rows, found one object, whose `data` holds them\nhint: jq -c '.data[]' FILE > rows.jsonl"),
    ("a.parquet", b"PAR1 this is not it", &[], "a.parquet: not a readable Parquet file: Invalid Parquet file. Corrupt footer\nhint: the file was probably cut off on its way; copy or write it again"),
    ("a.parquet", b"", &[], "a.parquet: the file is empty\nhint: expected a table of examples, one in a row; check how the file was made"),
];

#[test]
fn bad_files_give_their_messages() {
    for (name, bytes, pairs, expect) in BAD {
        match read(name, bytes, &options(pairs)) {
            Ok(outcome) => panic!("expected {expect:?}, found {:?}", shown(&outcome)),
            Err(error) => assert_eq!(error, *expect, "{:?}", String::from_utf8_lossy(bytes)),
        }
    }
}

#[test]
fn missing_files_and_folders_are_told_apart() {
    let folder = folder();
    fs::write(folder.path().join("train.csv"), "x").unwrap();
    let missing = folder.path().join("trian.csv");
    let message = read_examples(&missing, &ReadOptions::default())
        .unwrap_err()
        .to_string();
    assert_eq!(
        message,
        format!(
            "no such file: {}\nhint: did you mean `train.csv`?",
            missing.display()
        )
    );
    let message = read_examples(folder.path(), &ReadOptions::default())
        .unwrap_err()
        .to_string();
    assert_eq!(
        message,
        format!(
            "expected a file, found a directory: {}\nhint: name the file inside it: {}",
            folder.path().display(),
            folder.path().join("train.csv").display()
        )
    );
    // Of several the one to train on is named, also of those that lie one deeper.
    fs::rename(
        folder.path().join("train.csv"),
        folder.path().join("notes.txt"),
    )
    .unwrap();
    for name in ["data/dev.csv", "data/my_train.csv", "data/test.csv"] {
        fs::create_dir_all(folder.path().join("data")).unwrap();
        fs::write(folder.path().join(name), "x").unwrap();
    }
    let message = read_examples(folder.path(), &ReadOptions::default())
        .unwrap_err()
        .to_string();
    let named = folder.path().join("data/my_train.csv");
    assert!(
        message.ends_with(&format!("such as {}", named.display())),
        "{message}"
    );
}

#[test]
fn what_is_learned_is_named_and_looked_at_before_a_limit() {
    let limited = |bytes: &[u8], target: TargetKind| {
        let options = ReadOptions {
            target,
            require_label: true,
            limit: Some(Limit {
                examples: 2,
                stratify: true,
                seed: 1,
            }),
            ..ReadOptions::default()
        };
        read("a.csv", bytes, &options).unwrap()
    };
    let read = limited(b"text,tags\na,9|10\nb,2\nc,\nd,2|9\n", TargetKind::Classes);
    assert_eq!(read.label_names, ["2", "9", "10"]);
    assert_eq!(read.examples.len(), 2);
    let TargetHint::Lists {
        counts, unlabelled, ..
    } = &read.hint
    else {
        panic!("{:?}", read.hint);
    };
    assert_eq!(counts.values().sum::<usize>(), 5);
    assert_eq!(*unlabelled, 1);

    // In the order of any other form, with a label that no row has.
    let read = limited(
        b"text,rude,mad,odd\na,1,0,0\nb,0,1,0\n",
        TargetKind::Classes,
    );
    assert_eq!(read.label_names, ["mad", "odd", "rude"]);

    let read = limited(b"text,score\na,1\nb,2.5\nc,3\n", TargetKind::Real);
    assert_eq!(
        (read.label_names, read.examples.len()),
        (vec!["score".to_owned()], 2)
    );

    // Sorted by class: the first rows would be of one class.
    let read = limited(b"text,label\na,x\nb,x\nc,x\nd,y\ne,y\n", TargetKind::Class);
    assert_eq!(read.hint.counts()["x"], 3);
    let classes: Vec<_> = read
        .examples
        .iter()
        .filter_map(|e| e.label.as_ref()?.class())
        .collect();
    assert_eq!(classes, ["x", "y"]);
}

#[test]
fn sniffing_finds_columns_of_0_and_1() {
    let folder = folder();
    let path = folder.path().join("a.csv");
    fs::write(&path, "id,comment,rude,mad\n5,hi,0,1\n6,ho,1,1\n").unwrap();
    let found = sniff(&path, &ReadOptions::default()).unwrap();
    assert_eq!(found.binary_columns, ["rude", "mad"]);
    let options = ReadOptions {
        target: TargetKind::Classes,
        labels: found
            .binary_columns
            .iter()
            .map(|name| Column::Name(name.clone()))
            .collect(),
        ..ReadOptions::default()
    };
    let found = sniff(&path, &options).unwrap();
    assert_eq!(found.hint.kind(), Some(TargetKind::Classes));
    assert_eq!((found.rows, found.bad_rows), (2, 0));
}

fn packed(content: impl AsRef<[u8]>) -> Vec<u8> {
    use std::io::Write;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(content.as_ref()).unwrap();
    packed.finish().unwrap()
}

/// Texts with labels beside them were taken for texts to write, where it was unclear which column is the label.
#[test]
fn labels_beside_texts_are_seen() {
    let folder = folder();
    let labelled = |name: &str, header: &str, row: &dyn Fn(usize) -> String| {
        let rows: String = (0..40).map(|i| row(i) + "\n").collect();
        let path = folder.path().join(name);
        fs::write(&path, format!("{header}{rows}")).unwrap();
        may_be_labelled(&path, &ReadOptions::default())
    };
    type Rows<'a> = (&'a str, &'a str, &'a dyn Fn(usize) -> String);
    let kind = |i: usize| ["good", "bad", "odd"][i % 3];
    let cases: [(Rows<'_>, bool); 12] = [
        (
            ("a.csv", "text,sentiment,category\n", &|i| {
                format!("a {i},{},{}", kind(i), kind(i / 3))
            }),
            true,
        ),
        (
            ("a.csv", "text,toxic,rude\n", &|i| {
                format!("a {i},{},{}", i % 2, i % 3 / 2)
            }),
            true,
        ),
        (
            ("a.csv", "text,label_0,label_1\n", &|i| {
                format!("a {i},x{i},y{i}")
            }),
            true,
        ),
        (
            ("a.csv", "text,clarity,tone\n", &|i| {
                format!("a {i},{}.5,{}.25", i % 7, i % 5)
            }),
            true,
        ),
        (
            ("a.csv", "text,verdict\n", &|i| format!("a {i},b {i}")),
            true,
        ),
        (("a.csv", "text\n", &|i| format!("a {i}")), false),
        (
            ("a.csv", "id,text,empty\n", &|i| format!("{i},a {i},")),
            false,
        ),
        (
            ("a.csv", "url,title,text\n", &|i| {
                format!("u{i},t {i},a {i}")
            }),
            false,
        ),
        (
            ("a.jsonl", "", &|i| {
                format!(
                    "{{\"text\": \"a {i}\", \"url\": \"u{i}\", \"dump\": \"d{}\"}}",
                    i % 2
                )
            }),
            false,
        ),
        (
            ("a.jsonl", "", &|i| {
                format!("{{\"text\": \"a {i}\", \"meta\": {{\"n\": {i}}}}}")
            }),
            false,
        ),
        (
            ("a.jsonl", "", &|i| {
                format!(
                    "{{\"text\": \"a {i}\", \"toxic\": {}, \"rude\": {}}}",
                    i % 2,
                    i % 3 / 2
                )
            }),
            true,
        ),
        (
            ("a.jsonl", "", &|i| {
                format!("{{\"text\": \"a {i}\", \"n\": {i}, \"label\": \"x\"}}")
            }),
            true,
        ),
    ];
    for ((name, header, row), expect) in cases {
        assert_eq!(labelled(name, header, row), expect, "{header}{}", row(1));
    }
}

/// Rows of several parts were all trained on without a word.
#[test]
fn rows_of_several_parts_are_told_of() {
    let bytes = b"text,label,split\na,x,train\nb,y,train\nc,x,test\n";
    let outcome = read("a.csv", bytes, &ReadOptions::default()).unwrap();
    let note = outcome.notes.first().unwrap();
    assert!(
        note.contains("by column `split` 1 row is test, 2 rows are training")
            && note.contains("--validation and --test"),
        "{note}"
    );
    let other = b"text,label,set\na,x,red\nb,y,test\n";
    assert_eq!(
        read("a.csv", other, &ReadOptions::default()).unwrap().notes,
        [""; 0]
    );
}

/// A field for every row made the time grow with its square; a line of commas took minutes.
#[test]
fn tables_of_too_many_columns_are_refused_at_once() {
    let row = |i: usize| -> String {
        let own: Vec<String> = (0..100).map(|key| format!("\"k{i}_{key}\": 1")).collect();
        format!(
            "{{\"text\": \"a\", \"label\": \"x\", {}}}\n",
            own.join(", ")
        )
    };
    let keys: String = (0..200).map(row).collect();
    let commas = format!("{}\n", ",".repeat(100_000)).repeat(5);
    for (name, text) in [("a.jsonl", keys), ("a.csv", commas)] {
        let said = read(name, text.as_bytes(), &ReadOptions::default()).unwrap_err();
        assert!(said.contains("expected at most 4096"), "{said}");
    }
    let labels: Vec<String> = (0..10_001).map(|i| i.to_string()).collect();
    let rows = format!("text,tags\na,{}\nb,1|2\n", labels.join("|"));
    let said = read(
        "a.csv",
        rows.as_bytes(),
        &options(&[("target", "sets"), ("require_label", "")]),
    );
    assert!(
        said.unwrap_err()
            .contains("a.csv:2: 10001 labels in `tags`, expected at most 10000")
    );
}

/// What was done to a file, or passed over, is said.
#[test]
fn files_have_notes() {
    let gzip = |text: &str| packed(text);
    let repeated = "text,label\na,x\nb,y\ntext,label\nc,x\n";
    for (name, bytes, examples, expect) in [
        ("a.csv", b"text,label\na,x\nb,y\n".to_vec(), 2, &[][..]),
        ("a.csv.gz", gzip("text,label\na,x\nb,y\n"), 2, &[]),
        (
            "a.csv",
            gzip("text,label\na,x\nb,y\n"),
            2,
            &["a.csv: unpacked, for it is gzip"],
        ),
        (
            "a.jsonl.gz",
            gzip("{\"text\": \"a\", \"label\": \"x\"}\n"),
            1,
            &[],
        ),
        (
            "a.csv",
            repeated.as_bytes().to_vec(),
            3,
            &["a.csv: the header comes again and is no example there: line 4"],
        ),
        (
            "a.csv",
            b"text,label\na,Yes\nb,yes\nc,no\nd, no\n".to_vec(),
            4,
            &[
                "a.csv: labels that look alike are different classes: `Yes` (1 row), `yes` (1 row); write them alike if they are one",
            ],
        ),
    ] {
        let outcome = read(name, &bytes, &ReadOptions::default()).unwrap();
        let notes: Vec<&str> = outcome
            .notes
            .iter()
            .filter_map(|note| Some(&note[note.find(name)?..]))
            .collect();
        assert_eq!(
            (outcome.examples.len(), notes.as_slice()),
            (examples, expect),
            "{name}"
        );
    }
    // Zeros behind a member fill up a block.
    let mut padded = gzip("text,label\na,x\n");
    padded.extend(gzip("b,y\n"));
    padded.extend([0; 512]);
    let outcome = read("a.csv.gz", &padded, &ReadOptions::default()).unwrap();
    assert_eq!(shown(&outcome), ["2|a|-|x", "3|b|-|y"]);
    let twice = packed(packed("text,label\na,x\n"));
    let said = read("a.csv.gz", &twice, &ReadOptions::default()).unwrap_err();
    assert!(said.contains("found gzip inside of gzip"), "{said}");
    let options = ReadOptions {
        max_unpacked: Some(1000),
        ..ReadOptions::default()
    };
    assert_eq!(
        read("a.csv.gz", &gzip(&"text,label\n".repeat(1000)), &options).unwrap_err(),
        "a.csv.gz: more than 1000 bytes once it is unpacked or read from its pipe\nhint: name a smaller file, or raise data.max_unpacked"
    );
}

/// Zeros were read until the memory was full; a small file may not become gigabytes either.
#[cfg(target_os = "linux")]
#[test]
fn what_never_ends_is_refused_early() {
    let options = ReadOptions {
        format: Some(Format::Csv),
        ..ReadOptions::default()
    };
    let said = read_examples(Path::new("/dev/zero"), &options)
        .unwrap_err()
        .to_string();
    assert!(said.contains("expected text, found other bytes"), "{said}");
    let bomb = packed(vec![b'a'; 300 << 20]);
    assert!(bomb.len() < 3 << 20);
    let said = read("a.csv.gz", &bomb, &ReadOptions::default()).unwrap_err();
    assert!(said.contains("data.max_unpacked"), "{said}");
}

/// A pipe has no size and can be read once.
#[cfg(unix)]
#[test]
fn a_pipe_is_read_to_its_end() {
    let folder = folder();
    let path = folder.path().join("rows.csv");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    let writer = std::thread::spawn({
        let path = path.clone();
        move || fs::write(path, "text,label\na,x\nb,y\n").unwrap()
    });
    let outcome = read_examples(&path, &ReadOptions::default()).unwrap();
    writer.join().unwrap();
    assert_eq!(shown(&outcome), ["2|a|-|x", "3|b|-|y"]);
}

#[test]
fn a_field_of_late_rows_is_a_column() {
    let mut text = "{\"text\":\"a\"}\n".repeat(300);
    text.push_str("{\"text\":\"b\",\"label\":\"x\"}\n");
    let outcome = read(
        "a.jsonl",
        text.as_bytes(),
        &options(&[("require_label", ""), ("skip", "")]),
    )
    .unwrap();
    assert_eq!(
        (shown(&outcome), outcome.skipped.len()),
        (vec!["301|b|-|x".to_owned()], 300)
    );
}

#[test]
fn skipped_rows_are_reported_with_line_and_reason() {
    let bytes = b"text,label\na,x\nb\n,y\n\xFF,z\n\"d,w\ne,v\n";
    let outcome = read("a.csv", bytes, &options(&[("skip", "")])).unwrap();
    let skipped: Vec<(u64, String)> = outcome
        .skipped
        .iter()
        .map(|row| (row.place.line, row.reason.to_string()))
        .collect();
    let expect = [
        (3, "expected 2 fields as in the first row, found 1"),
        (4, "the text in column `text` is empty"),
        (5, "byte 0xff at byte column 1 is not UTF-8"),
        (
            6,
            "the quoted field that opens at byte column 1 is never closed",
        ),
    ];
    assert_eq!(
        skipped,
        expect.map(|(line, reason)| (line, reason.to_owned()))
    );
}

/// Whatever stands in the fields, writing them quoted and reading them again is identity, with the right lines.
#[test]
fn quoted_fields_survive_whatever_they_hold() {
    let alphabet = [
        "a", "\"", ",", "\n", "\r\n", "é", "\t", "\0", " ", ";", "日",
    ];
    let mut file = "text,label\n".to_owned();
    let mut expect = Vec::new();
    let mut line = 2;
    for row in 0..500u64 {
        let mut field = "x".to_owned();
        for i in 0..rekindle_base::rng::hash(1, 99, row, 0) % 12 {
            let pick = rekindle_base::rng::below(
                rekindle_base::rng::hash(1, 98, row, i),
                alphabet.len() as u64,
            );
            field.push_str(alphabet[pick as usize]);
        }
        file.push_str(&format!("\"{}\",{row}\n", field.replace('"', "\"\"")));
        expect.push(format!("{line}|{field}|-|{row}"));
        line += 1 + field.matches('\n').count();
    }
    assert_eq!(
        shown(&read("a.csv", file.as_bytes(), &ReadOptions::default()).unwrap()),
        expect
    );
}

#[test]
fn very_long_lines_survive() {
    let long = "word ".repeat(1 << 20);
    let outcome = read(
        "a.csv",
        format!("text,label\n{long},x\nb,y\n").as_bytes(),
        &ReadOptions::default(),
    )
    .unwrap();
    assert_eq!(outcome.examples[0].text.len(), long.len());
    assert_eq!(outcome.examples[1].place.line, 3);
}

/// No bytes at all may panic a reader.
#[test]
fn random_bytes_never_panic() {
    let alphabet = b"\"\"\",,\n\n\r\t;ab{}[]:text,label\xC3\xA9\xFF\0";
    for seed in 0..3000u64 {
        let size = rekindle_base::rng::hash(seed, 1, 0, 0) % 60;
        let bytes: Vec<u8> = (0..size)
            .map(|i| {
                alphabet[rekindle_base::rng::below(
                    rekindle_base::rng::hash(seed, 2, 0, i),
                    alphabet.len() as u64,
                ) as usize]
            })
            .collect();
        for format in [Format::Csv, Format::Tsv, Format::Jsonl] {
            let source = Source {
                format,
                content: source::Content::Bytes(bytes.clone()),
                notes: Vec::new(),
            };
            for pairs in [
                &[][..],
                &[("skip", "")],
                &[("header", "true"), ("skip", "")],
                &[("header", "false")],
            ] {
                let _ = read_source(Path::new("a"), &source, &options(pairs));
            }
        }
    }
}

mod parquet_files {
    use super::*;
    use ::parquet::basic::{Compression, ZstdLevel};
    use ::parquet::data_type::{
        BoolType, ByteArray, ByteArrayType, DoubleType, FloatType, Int32Type, Int64Type,
    };
    use ::parquet::file::properties::WriterProperties;
    use ::parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
    use ::parquet::schema::parser::parse_message_type;

    /// Writes a file of `schema`; `fill` writes column `n`.
    fn write(schema: &str, fill: impl Fn(usize, &mut SerializedColumnWriter<'_>)) -> Vec<u8> {
        write_with(WriterProperties::builder().build(), schema, fill)
    }

    fn write_with(
        properties: WriterProperties,
        schema: &str,
        fill: impl Fn(usize, &mut SerializedColumnWriter<'_>),
    ) -> Vec<u8> {
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let mut bytes = Vec::new();
        let mut writer =
            SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
        // Two row groups: row numbers run through.
        for _ in 0..2 {
            let mut group = writer.next_row_group().unwrap();
            let mut index = 0;
            while let Some(mut column) = group.next_column().unwrap() {
                fill(index, &mut column);
                column.close().unwrap();
                index += 1;
            }
            group.close().unwrap();
        }
        writer.close().unwrap();
        bytes
    }

    fn strings(column: &mut SerializedColumnWriter<'_>, values: &[&str], levels: Option<&[i16]>) {
        let values: Vec<ByteArray> = values.iter().map(|&value| value.into()).collect();
        column
            .typed::<ByteArrayType>()
            .write_batch(&values, levels, None)
            .unwrap();
    }

    #[test]
    fn strings_integers_and_booleans_are_read_with_row_numbers() {
        let schema = "message m { required int64 label; optional binary text (UTF8); required boolean flag; }";
        let bytes = write(schema, |index, column| match index {
            0 => drop(
                column
                    .typed::<Int64Type>()
                    .write_batch(&[1, 0], None, None)
                    .unwrap(),
            ),
            1 => strings(column, &["a b", "c"], Some(&[1, 1])),
            _ => drop(
                column
                    .typed::<BoolType>()
                    .write_batch(&[true, false], None, None)
                    .unwrap(),
            ),
        });
        let outcome = read("a.parquet", &bytes, &ReadOptions::default()).unwrap();
        assert_eq!(
            shown(&outcome),
            ["1|a b|-|1", "2|c|-|0", "3|a b|-|1", "4|c|-|0"]
        );
        let outcome = read(
            "a.parquet",
            &bytes,
            &options(&[("label", "flag"), ("limit", "3")]),
        )
        .unwrap();
        assert_eq!(
            shown(&outcome),
            ["1|a b|-|true", "2|c|-|false", "3|a b|-|true"]
        );
    }

    #[test]
    fn floats_decimals_and_lists_are_read() {
        let schema = "message m { required binary text (UTF8); required double score; required float near; required int32 price (DECIMAL(6, 2)); }";
        let bytes = write(schema, |index, column| match index {
            0 => strings(column, &["a", "b"], None),
            1 => drop(
                column
                    .typed::<DoubleType>()
                    .write_batch(&[0.5, -2.0], None, None)
                    .unwrap(),
            ),
            2 => drop(
                column
                    .typed::<FloatType>()
                    .write_batch(&[0.1, 3.0], None, None)
                    .unwrap(),
            ),
            _ => drop(
                column
                    .typed::<Int32Type>()
                    .write_batch(&[1999, 5], None, None)
                    .unwrap(),
            ),
        });
        for (pairs, expect) in [
            (
                &[
                    ("target", "real"),
                    ("label", "score"),
                    ("label", "near"),
                    ("label", "price"),
                ][..],
                ["1|a|-|0.5, 0.1, 19.99", "2|b|-|-2, 3, 0.05"],
            ),
            // Whole floats are the integers that a data frame made them of.
            (&[("label", "near")], ["1|a|-|0.1", "2|b|-|3"]),
        ] {
            let outcome = read("a.parquet", &bytes, &options(pairs)).unwrap();
            assert_eq!(shown(&outcome)[..2], expect, "{pairs:?}");
        }

        let schema = "message m { required binary text (UTF8); optional group tags (LIST) { repeated group list { required binary element (UTF8); } } }";
        let bytes = write(schema, |index, column| match index {
            0 => strings(column, &["a", "b", "c"], None),
            _ => {
                let values: [ByteArray; 2] = ["x".into(), "y".into()];
                // Two elements, an empty list, and no list.
                column
                    .typed::<ByteArrayType>()
                    .write_batch(&values, Some(&[2, 2, 1, 0]), Some(&[0, 1, 0, 0]))
                    .unwrap();
            }
        });
        let pairs = [("target", "sets"), ("require_label", ""), ("skip", "")];
        let outcome = read("a.parquet", &bytes, &options(&pairs)).unwrap();
        assert_eq!(shown(&outcome)[..2], ["1|a|-|[x, y]", "2|b|-|[]"]);
        assert_eq!((outcome.examples.len(), outcome.skipped.len()), (4, 2));
        assert_eq!(outcome.label_names, ["x", "y"]);
    }

    /// A kilobyte whose rows would become gigabytes of text is refused before memory is full.
    #[test]
    fn a_file_that_unpacks_to_far_too_much_is_refused() {
        let long = "x".repeat(4 << 20);
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_dictionary_page_size_limit(64 << 20)
            .build();
        let schema = "message m { required binary text (UTF8); }";
        let bytes = write_with(properties, schema, |_, column| {
            strings(column, &[long.as_str(); 80], None)
        });
        assert!(bytes.len() < 20_000, "{}", bytes.len());
        let good = read("a.parquet", &bytes, &options(&[("limit", "3")])).unwrap();
        assert_eq!(good.examples.len(), 3);
        assert_eq!(
            read("a.parquet", &bytes, &ReadOptions::default()).unwrap_err(),
            format!(
                "a.parquet: {} bytes become more than {} bytes of text\nhint: the file is damaged, or made to do harm; if it is as it should be, raise data.max_unpacked",
                bytes.len(),
                64 * (long.len() + 128)
            )
        );
    }

    /// A column of one short text needs few bytes for any number of rows.
    #[test]
    fn rows_without_end_are_refused() {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let schema = "message m { required binary text (UTF8); }";
        let bytes = write_with(properties, schema, |_, column| {
            let texts: Vec<ByteArray> = vec!["a".into(); 100_000];
            for _ in 0..12 {
                column
                    .typed::<ByteArrayType>()
                    .write_batch(&texts, None, None)
                    .unwrap();
            }
        });
        let error = read("a.parquet", &bytes, &options(&[("header", "true")])).unwrap_err();
        assert!(
            error.contains("become more than") && error.contains("data.max_unpacked"),
            "{error}"
        );
        let allowed = ReadOptions {
            max_unpacked: Some(1 << 30),
            ..ReadOptions::default()
        };
        assert_eq!(
            read("a.parquet", &bytes, &allowed).unwrap().examples.len(),
            2_400_000
        );
    }

    /// The headers of pages say what they become, whatever the file's summary says.
    #[test]
    fn pages_are_counted_by_their_own_headers() {
        let texts: Vec<String> = (0..5000)
            .map(|index| format!("text number {index} of many"))
            .collect();
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_data_page_row_count_limit(512)
            .set_write_batch_size(512);
        let schema = "message m { required binary text (UTF8); }";
        let bytes = write_with(properties.build(), schema, |_, column| {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            strings(column, &texts, None);
        });
        let folder = folder();
        let path = folder.path().join("a.parquet");
        fs::write(&path, &bytes).unwrap();
        let file = fs::File::open(&path).unwrap();
        let reader =
            ::parquet::file::reader::SerializedFileReader::new(file.try_clone().unwrap()).unwrap();
        use ::parquet::file::reader::FileReader;
        let mut pages = 0;
        for group in reader.metadata().row_groups() {
            let chunk = &group.columns()[0];
            let (start, length) = chunk.byte_range();
            let found = pages::unpacked_size(&file, start, length).unwrap();
            // The summary counts the headers too.
            let summed = chunk.uncompressed_size() as u64;
            assert!(
                found < summed && found * 10 > summed * 9,
                "{found} of {summed}"
            );
            pages += 1;
        }
        assert_eq!(pages, 2);
    }

    /// `datasets` keeps the names of classes beside their numbers.
    #[test]
    fn classes_have_the_names_that_the_file_has_for_them() {
        let about = r#"{"info": {"features": {"label": {"names": ["zero", "one", "two"], "_type": "ClassLabel"}, "text": {"dtype": "string"}}}}"#;
        let properties = WriterProperties::builder().set_key_value_metadata(Some(vec![
            ::parquet::file::metadata::KeyValue::new("huggingface".to_owned(), about.to_owned()),
        ]));
        let schema = "message m { required binary text (UTF8); required int64 label; }";
        let bytes = write_with(properties.build(), schema, |index, column| match index {
            0 => strings(column, &["a", "b", "c"], None),
            _ => drop(
                column
                    .typed::<Int64Type>()
                    .write_batch(&[2, 0, -1], None, None)
                    .unwrap(),
            ),
        });
        let labels = |options: &ReadOptions| {
            let outcome = read("a.parquet", &bytes, options).unwrap();
            (shown(&outcome)[..3].to_vec(), outcome.label_names)
        };
        let (rows, names) = labels(&ReadOptions::default());
        assert_eq!(rows, ["1|a|-|two", "2|b|-|zero", "3|c|-|-"]);
        // In their own order, and with a class that no row has.
        assert_eq!(names, ["zero", "one", "two"]);
        // A model that was tuned on the numbers keeps them.
        let known = ReadOptions {
            known_labels: vec!["0".to_owned(), "2".to_owned()],
            ..ReadOptions::default()
        };
        assert_eq!(labels(&known).0, ["1|a|-|2", "2|b|-|0", "3|c|-|-1"]);
    }

    #[test]
    fn nulls_and_columns_of_other_kinds_are_errors() {
        let nulls = write("message m { optional binary text (UTF8); }", |_, column| {
            strings(column, &["a"], Some(&[1, 0]));
        });
        let raw = write("message m { required binary text; }", |_, column| {
            strings(column, &["a"], None)
        });
        let list = write(
            "message m { required group text (LIST) { repeated group list { required binary element (UTF8); } } }",
            |_, column| {
                let values: [ByteArray; 1] = ["a".into()];
                column
                    .typed::<ByteArrayType>()
                    .write_batch(&values, Some(&[1]), Some(&[0]))
                    .unwrap();
            },
        );
        let raw_label = write(
            "message m { required binary text (UTF8); required binary label; }",
            |_, column| strings(column, &["a"], None),
        );
        for (bytes, expect) in [
            (
                &nulls,
                "a.parquet:2: the field `text` is missing; the same in 1 other row, line 4\nhint: every line needs the same fields; or leave such rows out: --set data.on_bad_example=skip",
            ),
            (
                &raw,
                "a.parquet: column `text` cannot be the text: expected strings, found bytes that are not marked as UTF-8\nhint: name another column, or convert this one",
            ),
            (
                &list,
                "a.parquet: column `text` cannot be the text: expected strings, found a nested column\nhint: name another column, or convert this one",
            ),
            (
                &raw_label,
                "a.parquet: column `label` cannot be the label: expected strings, numbers, booleans or lists of them, found bytes that are not marked as UTF-8\nhint: name another column, or convert this one",
            ),
        ] {
            assert_eq!(
                read("a.parquet", bytes, &ReadOptions::default()).unwrap_err(),
                expect
            );
        }
        let cut = &raw[..raw.len() - 20];
        assert!(
            read("a.parquet", cut, &ReadOptions::default())
                .unwrap_err()
                .contains("not a readable Parquet file")
        );
    }
}

#[test]
fn sniffing_says_what_a_file_holds() {
    let folder = folder();
    let look = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        sniff(&path, &ReadOptions::default()).unwrap()
    };
    let found = look(
        "a.csv",
        "idx,sentence,intent\n1,hi,greet\n2,bye,leave\n3,,leave\n4,hello,greet\n",
    );
    let columns = found.columns.unwrap();
    assert_eq!(
        (found.format, found.header, found.rows, found.bad_rows),
        (Format::Csv, Some(true), 4, 1)
    );
    assert_eq!(
        (columns.text.name.as_str(), columns.text.reason.as_str()),
        ("sentence", "by its name")
    );
    assert_eq!(columns.labels[0].name, "intent");
    assert_eq!(
        found.hint.counts().into_iter().collect::<Vec<_>>(),
        [("greet".to_owned(), 2), ("leave".to_owned(), 1)]
    );
    assert_eq!(found.examples[1], ["2", "bye", "leave"]);

    let found = look("b.tsv", "hi\tgreet\nbye\tleave\nhello\tgreet\n");
    let label = found.columns.unwrap().labels.remove(0);
    assert_eq!(
        (found.header, label.index, label.reason.as_str()),
        (Some(false), 1, "2 distinct values in 3 rows")
    );

    let found = look("c.csv", "one,two\nthree,four\n");
    assert_eq!(
        (found.header, found.rows, found.hint),
        (None, 1, TargetHint::Nothing)
    );
    assert!(matches!(
        found.columns,
        Err(DataError::HeaderUnclear { .. })
    ));

    let found = look("d.jsonl", "{\"text\":\"a\",\"n\":1}\n");
    assert_eq!(
        (found.format, found.names),
        (Format::Jsonl, vec!["text".to_owned(), "n".to_owned()])
    );
}

/// What a model was tuned on is taken before what a name promises.
#[test]
fn usual_columns_go_before_guesses_where_they_are_there() {
    let name = |name: &str| Column::Name(name.to_owned());
    let dir = tempfile::tempdir().unwrap();
    let resolved = |content: &str, usual: UsualColumns, text: Option<Column>| {
        let path = dir.path().join("a.csv");
        fs::write(&path, content).unwrap();
        let options = ReadOptions {
            usual,
            text,
            ..ReadOptions::default()
        };
        let columns = read_examples(&path, &options).unwrap().columns;
        let label = columns.labels.first().map(|label| label.name.clone());
        let pair = columns.text_pair.map(|pair| pair.name);
        (columns.text.name, pair, label.unwrap_or_default())
    };
    let usual = |text: &str, pair: Option<&str>, label: &str| UsualColumns {
        text: Some(name(text)),
        text_pair: pair.map(name),
        label: vec![name(label)],
        ..UsualColumns::default()
    };
    let says = |text: &str, pair: Option<&str>, label: &str| {
        (text.to_owned(), pair.map(str::to_owned), label.to_owned())
    };
    let table = "text,beschreibung,kat\na,b c,x\nd,e f,y\n";
    assert_eq!(
        resolved(table, usual("beschreibung", None, "kat"), None),
        says("beschreibung", None, "kat")
    );
    // What is asked for goes before both.
    let asked = Some(name("text"));
    assert_eq!(
        resolved(table, usual("beschreibung", None, "kat"), asked),
        says("text", None, "kat")
    );
    // A column that is missing: the texts are guessed, the label is as ever.
    assert_eq!(
        resolved(table, usual("body", None, "kat"), None),
        says("text", None, "kat")
    );
    // A model of single texts reads no pair, one of pairs reads its own.
    let pairs = "question1,question2,sentence,label\na,b,c,x\n";
    assert_eq!(
        resolved(pairs, usual("sentence", None, "label"), None),
        says("sentence", None, "label")
    );
    assert_eq!(
        resolved(pairs, usual("body", None, "label"), None),
        says("sentence", None, "label")
    );
    assert_eq!(
        resolved(pairs, UsualColumns::default(), None),
        says("question1", Some("question2"), "label")
    );
    assert_eq!(
        resolved(pairs, usual("sentence", Some("question2"), "label"), None),
        says("sentence", Some("question2"), "label")
    );
}
