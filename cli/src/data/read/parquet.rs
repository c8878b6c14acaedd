//! Parquet, as far as examples need it: texts, numbers, lists and structs.

use std::fs::File;
use std::sync::Arc;

use parquet::basic::{ConvertedType, Repetition, Type as Physical};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Map, Number, Value};

use super::super::error::FileFault;
use super::super::record::{Place, Record, Spot};
use super::guard::guarded;

/// The rows of a Parquet file as the objects JSON would have. Columns that are not `wanted` are there by name, but null: they may be
/// large (images, embeddings) or of types that no example is made of.
pub(super) fn records(
    opened: File,
    file: &Arc<str>,
    limit: usize,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Record>, FileFault> {
    guarded(|| rows(opened, file, limit, wanted)).unwrap_or_else(|reason| Err(FileFault::Parquet { reason }))
}

fn rows(opened: File, file: &Arc<str>, limit: usize, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<Record>, FileFault> {
    let broken = |error: ParquetError| FileFault::Parquet { reason: reason(&error) };
    let reader = SerializedFileReader::new(opened).map_err(broken)?;
    let schema = reader.metadata().file_metadata().schema().clone();
    let names: Vec<&str> = schema.get_fields().iter().map(|column| column.name()).collect();
    let projection = projection(&schema, wanted)?;
    let place = |row| Place { file: file.clone(), spot: Spot::Row(row) };
    if projection.get_fields().is_empty() {
        let rows = usize::from(reader.metadata().file_metadata().num_rows() > 0).min(limit);
        return (0..rows).map(|row| Ok(Record { place: place(row), fields: spread(Map::new(), &names) })).collect();
    }
    let rows = reader.get_row_iter(Some(projection)).map_err(broken)?;
    let records = rows.take(limit).enumerate().map(|(row, read)| {
        let fields = read.map_err(|error| reason(&error)).and_then(object);
        let fields = fields.map_err(|reason| FileFault::ParquetRow { row, reason })?;
        Ok(Record { place: place(row), fields: spread(fields, &names) })
    });
    records.collect()
}

/// The schema of the wanted columns alone.
fn projection(schema: &Type, wanted: &dyn Fn(&str) -> bool) -> Result<Type, FileFault> {
    let columns: Vec<_> = schema.get_fields().iter().filter(|column| wanted(column.name())).cloned().collect();
    for (place, column) in columns.iter().enumerate() {
        check(column, column.name())?;
        if columns[..place].iter().any(|other| other.name() == column.name()) {
            return Err(FileFault::Parquet { reason: format!("the column {:?} appears twice", column.name()) });
        }
    }
    let projected = Type::group_type_builder(schema.name()).with_fields(columns).build();
    projected.map_err(|error| FileFault::Parquet { reason: reason(&error) })
}

/// Refuses types on which the record reader panics; schemas come from users.
fn check(field: &Type, column: &str) -> Result<(), FileFault> {
    let info = field.get_basic_info();
    let converted = info.converted_type();
    let refuse = |found: String| Err(FileFault::ParquetType { column: column.to_owned(), found });
    if field.is_primitive() {
        let fixed = field.get_physical_type() == Physical::FIXED_LEN_BYTE_ARRAY;
        return match converted {
            ConvertedType::NONE | ConvertedType::DECIMAL => Ok(()),
            other if fixed || other == ConvertedType::INTERVAL => refuse(other.to_string()),
            _ => Ok(()),
        };
    }
    let children = field.get_fields();
    if matches!(converted, ConvertedType::LIST | ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE) {
        let [child] = children else { return refuse(format!("{converted} of {} parts", children.len())) };
        let info = child.get_basic_info();
        if !info.has_repetition() || info.repetition() != Repetition::REPEATED {
            return refuse(format!("{converted} without repetition"));
        }
        if converted != ConvertedType::LIST && (child.is_primitive() || !matches!(child.get_fields().len(), 1 | 2)) {
            return refuse(format!("malformed {converted}"));
        }
    }
    children.iter().try_for_each(|child| check(child, column))
}

/// All columns in the file's order, null where nothing was read.
fn spread(mut fields: Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    names.iter().map(|name| ((*name).to_owned(), fields.get_mut(*name).map_or(Value::Null, Value::take))).collect()
}

fn object(row: Row) -> Result<Map<String, Value>, String> {
    let columns = row.into_columns().into_iter();
    let fields = columns.map(|(name, field)| match value(field) {
        Ok(value) => Ok((name, value)),
        Err(reason) => Err(format!("{name}: {reason}")),
    });
    fields.collect()
}

fn value(field: Field) -> Result<Value, String> {
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(flag) => flag.into(),
        Field::Byte(number) => number.into(),
        Field::Short(number) => number.into(),
        Field::Int(number) => number.into(),
        Field::Long(number) => number.into(),
        Field::UByte(number) => number.into(),
        Field::UShort(number) => number.into(),
        Field::UInt(number) => number.into(),
        Field::ULong(number) => number.into(),
        Field::Float16(number) => float(f64::from(number)),
        Field::Float(number) => float(f64::from(number)),
        Field::Double(number) => float(number),
        Field::Str(text) => text.into(),
        // Some writers do not say that a column is text.
        Field::Bytes(bytes) => String::from_utf8(bytes.data().to_vec())
            .map_err(|error| format!("byte {} of the text is not UTF-8", error.utf8_error().valid_up_to()))?
            .into(),
        Field::Group(row) => Value::Object(object(row)?),
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect::<Result<Vec<_>, _>>()?.into(),
        // Dates, times, decimals and maps are nothing an example is made of; their text is for messages.
        other => other.to_string().into(),
    })
}

fn float(number: f64) -> Value {
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

/// What the library says, in one short line and without the name of its error in front.
fn reason(error: &ParquetError) -> String {
    let text = error.to_string();
    if text.contains("BYTE_ARRAY as String") {
        return "a text in it is not UTF-8".to_owned();
    }
    let text = text.split_once(": ").map_or(text.as_str(), |(_, rest)| rest);
    text.lines().next().unwrap_or(text).chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use parquet::data_type::{ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    /// One column's values.
    enum Values {
        Bytes(Vec<&'static [u8]>),
        Numbers(Vec<i64>),
        Spans(usize),
    }

    fn written(schema: &str, columns: &[Values]) -> Vec<u8> {
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let mut bytes = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(WriterProperties::default())).unwrap();
        let mut rows = writer.next_row_group().unwrap();
        for values in columns {
            let mut column = rows.next_column().unwrap().unwrap();
            match values {
                Values::Bytes(values) => {
                    let values: Vec<ByteArray> = values.iter().map(|value| ByteArray::from(value.to_vec())).collect();
                    column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
                }
                Values::Numbers(values) => {
                    column.typed::<Int64Type>().write_batch(values, None, None).unwrap();
                }
                Values::Spans(count) => {
                    let values = vec![FixedLenByteArray::from(vec![0; 12]); *count];
                    column.typed::<FixedLenByteArrayType>().write_batch(&values, None, None).unwrap();
                }
            }
            column.close().unwrap();
        }
        rows.close().unwrap();
        writer.close().unwrap();
        bytes
    }

    fn read(bytes: &[u8], wanted: &[&str]) -> Result<Vec<Record>, FileFault> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        records(file, &"x.parquet".into(), usize::MAX, &|column| wanted.contains(&column))
    }

    fn table() -> Vec<u8> {
        let schema = "message m { required binary prompt (UTF8); required int64 choice; required fixed_len_byte_array(12) age (INTERVAL); }";
        written(schema, &[Values::Bytes(vec![b"a", "\u{2028}é".as_bytes()]), Values::Numbers(vec![1, 2]), Values::Spans(2)])
    }

    #[test]
    fn rows_are_what_json_would_hold() {
        let records = read(&table(), &["prompt", "choice"]).unwrap();
        assert_eq!(records[1].place.to_string(), "x.parquet, row 1 (from 0)");
        let expected = serde_json::json!({"prompt": "\u{2028}é", "choice": 2, "age": null});
        assert_eq!(Value::Object(records[1].fields.clone()), expected);
        assert_eq!(records[1].fields.keys().collect::<Vec<_>>(), ["prompt", "choice", "age"]);
    }

    #[test]
    fn columns_nobody_wants_are_known_by_name() {
        let records = read(&table(), &["messages"]).unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].columns(), "prompt, choice, age");
    }

    #[test]
    fn types_without_a_value_are_refused() {
        let fault = read(&table(), &["age"]).unwrap_err().to_string();
        assert!(fault.starts_with("column \"age\" has the Parquet type INTERVAL, which is no text"), "{fault}");
        let list = "message m { required group prompt (LIST) { required binary element (UTF8); } }";
        let fault = read(&written(list, &[Values::Bytes(vec![b"a"])]), &["prompt"]).unwrap_err().to_string();
        assert!(fault.starts_with("column \"prompt\" has the Parquet type LIST without repetition"), "{fault}");
    }

    #[test]
    fn texts_must_be_utf8_whether_marked_as_text_or_not() {
        for (mark, expected) in [
            ("(UTF8)", "row 0 (from 0) cannot be read: a text in it is not UTF-8"),
            ("", "row 0 (from 0) cannot be read: prompt: byte 1 of the text is not UTF-8"),
        ] {
            let file = written(&format!("message m {{ required binary prompt {mark}; }}"), &[Values::Bytes(vec![b"a\xe9"])]);
            let fault = read(&file, &["prompt"]).unwrap_err().to_string();
            assert!(fault.starts_with(expected), "{fault}");
            let file =
                written(&format!("message m {{ required binary prompt {mark}; }}"), &[Values::Bytes(vec!["é".as_bytes()])]);
            assert_eq!(read(&file, &["prompt"]).unwrap()[0].fields["prompt"], "é");
        }
    }

    #[test]
    fn no_rows_are_no_records() {
        let empty = written("message m { required binary prompt (UTF8); }", &[Values::Bytes(vec![])]);
        assert_eq!(read(&empty, &["prompt"]).unwrap(), []);
        assert_eq!(read(&empty, &["other"]).unwrap(), []);
    }

    #[test]
    fn a_file_that_is_cut_off_is_refused() {
        let table = table();
        for length in [4, 8, table.len() / 2, table.len() - 1] {
            let fault = read(&table[..length], &["prompt"]).unwrap_err().to_string();
            assert!(fault.starts_with("cannot be read as Parquet: "), "{length}: {fault}");
            assert!(fault.ends_with("; if the file is cut off, fetch or write it again"), "{length}: {fault}");
        }
    }

    /// Any single damaged byte leads to data or to an error, never to a panic.
    #[test]
    fn a_damaged_file_does_no_harm() {
        let table = table();
        for place in 4..table.len() {
            for damage in [0x01, 0x80, 0xff] {
                let mut damaged = table.clone();
                damaged[place] ^= damage;
                for wanted in [["prompt", "choice"], ["prompt", "age"]] {
                    if let Err(fault) = read(&damaged, &wanted) {
                        assert!(!fault.to_string().is_empty());
                    }
                }
            }
        }
    }
}
