import { render } from 'preact';
import './styles/base.css';
import './styles/over.css';
import './styles/frame.css';
import './styles/chat.css';
import './styles/composer.css';
import './styles/beside.css';
import './styles/pages.css';
import { App } from './app';
import { listen } from './keys';
import { start } from './lib/state';

start();
listen();
render(<App />, document.getElementById('app')!);
