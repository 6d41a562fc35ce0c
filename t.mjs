const m = (l) => { gc(); console.log(l, (process.memoryUsage().heapUsed/1e6).toFixed(2), 'MB') }
m('start'); await import(process.argv[2]); m(process.argv[2])
