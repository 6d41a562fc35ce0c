/** Resolves with what a process has said so far, once that holds these words. */
export function shows(child, what) {
  return new Promise((resolve, reject) => {
    let text = ''
    child.stdout.on('data', (chunk) => {
      text += chunk
      if (text.includes(what)) resolve(text)
    })
    child.on('close', (status) => reject(new Error(`ended with ${status}: ${text}`)))
  })
}
