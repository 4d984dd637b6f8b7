// A plugin that has its settings.

import { Batch } from "./event.js";
import { Fields, Out } from "./out.js";

/** Fields that data may name before they are forgotten: a batch carries the names of all fields. */
const MOST_NAMED_FIELDS = 512;

/** A plugin that has its settings. */
export class Runner {
  /** Reads the settings, which are JSON. An error is what their author is shown. */
  constructor(plugin, settings) {
    this._plugin = plugin;
    this._settings = settings;
    this._sizes = { cells: 0 };
    this._make();
  }

  _make() {
    this.fields = new Fields();
    this._process = this._plugin.make(this._plugin.settings.read(this._settings), this.fields);
    this.fields._fix();
  }

  /** One batch in, one out. */
  process(input, last) {
    if (this.fields._isOver(MOST_NAMED_FIELDS)) this._make();
    const batch = new Batch(input);
    const out = new Out(this.fields, batch, this._sizes);
    this._process(batch, last, out);
    this._sizes.cells = out._cells.length + 64;
    return out._finish();
  }
}
