from PIL import Image

from ffn.visualization.page import write_page


def test_the_page_stands_alone_and_is_escaped(tmp_path):
    Image.new('RGB', (3, 2)).save(tmp_path / 'a.png')
    write_page(
        tmp_path / 'out' / 'report.html',
        'A < B',
        {'error': '0.1 & more'},
        [(tmp_path / 'a.png', 'what "it" shows')],
        ['run --x=<1>'],
    )
    text = (tmp_path / 'out' / 'report.html').read_text()
    assert '<title>A &lt; B</title>' in text
    assert '0.1 &amp; more' in text
    assert 'data:image/png;base64,iVBOR' in text
    assert 'run --x=&lt;1&gt;' in text
