"""Offline HTML pages: templates, plots and pictures in one file that loads nothing and runs nothing.

rendering   templates -> one page's bytes; everything that a store says is escaped
writing     the page's file, written whole or not at all
plots       histograms and curves as inline SVG in the page's own colours
line_chart  curves as SVG without matplotlib, for pages that a training run writes by itself
series      lines with error bars, one a method, as SVG and as PNG
pictures    pixels -> data URIs of a bounded size
palette     one colour for each class
class_maps  classes of pixels -> a picture in these colours

Knows nothing of stores: what is shown is gathered by the modules that make a page.
"""

from reinforce.pages.class_maps import paint_classes
from reinforce.pages.line_chart import ChartLine, legend, line_chart
from reinforce.pages.palette import class_colours, css
from reinforce.pages.pictures import MAX_SIDE_PX, data_uri
from reinforce.pages.plots import Curve, Mark, Plotter
from reinforce.pages.rendering import render
from reinforce.pages.series import Axes, Drawing, Line, SeriesPlotter
from reinforce.pages.writing import check_writable, write_page

__all__ = [
    "MAX_SIDE_PX",
    "Axes",
    "ChartLine",
    "Curve",
    "Drawing",
    "Line",
    "Mark",
    "Plotter",
    "SeriesPlotter",
    "check_writable",
    "class_colours",
    "css",
    "data_uri",
    "legend",
    "line_chart",
    "paint_classes",
    "render",
    "write_page",
]
