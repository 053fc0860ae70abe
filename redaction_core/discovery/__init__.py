"""From search queries to a list of image URLs, by the search API of Openverse.

limits      what the API allows, and to whom
openverse   the API's client: pace, retries, credentials
rates       what an answer says about rates
answers     from an answer to checked results and plain text
url_list    the list's columns, order and duplicates
search      the whole search, page by page, in storage
"""
