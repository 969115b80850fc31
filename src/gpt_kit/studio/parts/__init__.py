"""What rooms share: pickers, settings, plain text, and the pieces of the page that Streamlit has not."""
