"""The studio: a web page on which runs are watched, and models are talked with and looked into.

    folder       which runs and models there are, and nothing outside the runs folder
    cutting      ids -> the text that each of them brings
    scoring      ids -> how probable each was, and its rivals
    inside       ids -> attention, what each layer would have said, norms
    history      a run's files -> curves and samples
    rooms/       one page each, in Streamlit; what they share stands in parts/
    app, launch  the pages together, and the server that shows them

The files of the first five know no Streamlit. Whatever comes from a model or a file is shown as text: Markdown is escaped (parts/plain.py),
and the page's own scripts set text, never markup.
"""
