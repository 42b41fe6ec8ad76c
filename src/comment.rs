//! The comments of the contracts, as documents repeat them.

use prost_reflect::FileDescriptor;

/// The leading comment of what stands at `path` of the file, as running text.
pub fn of(file: &FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let location = info.and_then(|info| info.location.iter().find(|location| location.path == path));
    running(location.and_then(|location| location.leading_comments.as_deref()).unwrap_or_default())
}

/// A comment as running text: its lines joined, its paragraphs kept.
pub fn running(comment: &str) -> String {
    let lines: Vec<&str> = comment.lines().map(str::trim).collect();
    let paragraphs = lines.split(|line| line.is_empty()).map(|lines| lines.join(" "));
    paragraphs.filter(|paragraph| !paragraph.is_empty()).collect::<Vec<_>>().join("\n\n")
}

/// The first sentence of a comment.
pub fn first_sentence(comment: &str) -> String {
    let text = running(comment);
    let paragraph = text.lines().next().unwrap_or_default();
    match paragraph.split_once(". ") {
        Some((sentence, _)) => format!("{sentence}."),
        None => paragraph.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_joined_and_paragraphs_stay() {
        assert_eq!(
            running(" One line,\n and its rest.\n\n Another.\n"),
            "One line, and its rest.\n\nAnother."
        );
        assert_eq!(running(""), "");
    }

    #[test]
    fn the_first_sentence_may_go_over_lines() {
        assert_eq!(first_sentence("Gives one,\nby id. And more."), "Gives one, by id.");
        assert_eq!(first_sentence("Gives one.\nFails with NOT_FOUND."), "Gives one.");
        assert_eq!(first_sentence("Gives one.\n\nMore."), "Gives one.");
        assert_eq!(first_sentence(""), "");
    }

    #[test]
    fn whatever_has_a_descriptor_has_its_comment() {
        let tenant =
            kombify_contracts::descriptors().get_message_by_name("kombify.tenancy.v1.Tenant").unwrap();
        let said = "One customer: a place on an instance where its members work.";
        assert_eq!(of(&tenant.parent_file(), tenant.path()), said);
        let etag = tenant.get_field_by_name("etag").unwrap();
        assert_eq!(of(&etag.parent_file(), etag.path()), "Changes with every change.");
    }
}
