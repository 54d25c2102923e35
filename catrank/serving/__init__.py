"""A model as a service on HTTP: a page for a browser, and a REST interface.

``limits``     what a request may ask for, and the error messages beyond
``engine``     the queue in front of the model
``requests``   the work for an uploaded image or video
``replies``    a result in the formats of the REST interface
``schemas``    the JSON of the REST interface
``rest``       its addresses
``gate``       what is refused before any address sees it
``kept``       uploads and results that are kept for the page
``view``       a result as the page shows it
``page``       the page, with Gradio
``files``      the addresses from which the page uploads and downloads
``examples``   example images
``app``        all of it as one ASGI application, and its server
"""
