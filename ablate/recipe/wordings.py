"""Wordings that belong to no source: generic task descriptions, for the arm that controls for having an instruction.

Written for this project in the manner of the generic descriptions that Promptriever compares with (arXiv 2409.11136,
section 5): they ask for relevance and say nothing about any particular query.
"""

GENERIC_INSTRUCTIONS: tuple[str, ...] = (
    "Find the passages that answer this query.",
    "Retrieve documents that are relevant to the request above.",
    "Return texts that give the information the searcher needs.",
    "A relevant document helps someone who asked this question.",
    "Look for passages on the same subject as the query.",
    "Please give the documents that best match this search.",
    "Select the texts that a librarian would hand to the person asking.",
    "Rank passages by how well they satisfy the information need.",
    "Documents are relevant when they deal with what the query asks for.",
    "Your task is to find text that is useful for the given query.",
    "Search the collection for passages that respond to the request.",
    "Bring up those documents that discuss the topic in question.",
    "Identify passages from which the query can be answered.",
    "Given a short query, retrieve the passages that fit it.",
    "Prefer texts that treat the subject of the query directly.",
    "The goal is to collect documents about what the user is looking for.",
    "Show passages that contain an answer or a part of one.",
    "Match the query with the documents that serve it best.",
    "Consider a document relevant if it addresses the query.",
    "Choose passages that a reader with this question would want to see.",
    "Retrieve everything in the collection that bears on the query.",
    "Find informative documents for the search that was entered.",
    "Provide the passages most closely related to the user's request.",
    "Documents on the topic of the query should come first.",
)
