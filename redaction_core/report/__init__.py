"""A run for people to look at: one HTML file with figures, pictures and a table.

survey         all rows, seen once: sums, and which images to show
distributions  how a measure is spread
blind          a page that asks people which picture is the original
pictures       what belongs to one image, side by side
page           the page itself, from page.html.j2, page.css and page.js
"""
